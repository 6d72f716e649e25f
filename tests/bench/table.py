"""Readings of pipelines/bench-cpu (JSON lines on stdin: ours, the peer's, each with the FMA loop
read just before and after) -> a Markdown table: for each row the medians over the rounds of ours
and of the peer's better form, their ratio, GFLOP/s, share of the FMA loop, memory; in brackets the
fastest step of all, which neighbours on the machine touch least, and the ratio of these.

Refuses (exit 3, no table) a peer without the tuned variables and a reading without its FMA loops.
Readings taken while the FMA loop was under 90 % of the best one of the whole run say how busy the
machine was, not how fast the program is: they count only where a row has no other, and that row is
marked with a star."""
import json
import statistics
import sys


def fail(why):
    print(f"bench-cpu: {why}", file=sys.stderr)
    sys.exit(3)


def check(reading):
    if "peer" in reading and not reading.get("tuned"):
        fail(f"{reading['row']}: this PyTorch lacks the tuned variables, so it is not the peer")
    if not all(reading.get(f"fma_gflops_{when}", 0) > 0 for when in ("before", "after")):
        fail(f"{reading['row']}: a reading without its FMA loops is not a result")


def loop(reading, of=min):
    return of(reading["fma_gflops_before"], reading["fma_gflops_after"])


def summary(readings, peak):
    """Medians of the quiet readings: speed, GFLOP/s, share of the FMA loop around each, peak
    memory; and whether they were quiet."""
    quiet = [r for r in readings if loop(r) >= 0.9 * peak]
    used = quiet or readings
    middle = lambda value: statistics.median(value(r) for r in used)
    return {
        "speed": middle(lambda r: r["tokens_per_second"]), "gflops": middle(lambda r: r["gflops"]),
        "share":
            middle(lambda r: 2 * r["gflops"] / (r["fma_gflops_before"] + r["fma_gflops_after"])),
        "best": max(r["tokens_per_second_best"]
                    for r in readings), "mb": max(r["rss_mb"] for r in readings), "busy": not quiet}


def main():
    readings = [json.loads(line) for line in sys.stdin]
    for reading in readings:
        check(reading)
    peak = max(loop(r, max) for r in readings)
    print(
        "| row | pare tok/s | GFLOP/s | of FMA loop | MB | PyTorch tok/s | of FMA loop | MB "
        "| better form | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    busy = False
    for row in dict.fromkeys(r["row"] for r in readings):
        own = summary([r for r in readings if r["row"] == row and "peer" not in r], peak)
        forms = {r["peer"] for r in readings if r["row"] == row and "peer" in r}
        peers = {
            form: summary([r for r in readings if r["row"] == row and r.get("peer") == form], peak)
            for form in forms}
        form = max(peers, key=lambda f: peers[f]["speed"])
        peer = peers[form]
        peer_best = max(p["best"] for p in peers.values())
        star = "*" if own["busy"] or peer["busy"] else ""
        busy |= bool(star)
        print(
            f"| {row}{star} | {own['speed']:.0f} ({own['best']:.0f}) | {own['gflops']:.0f} "
            f"| {own['share']:.0%} | {own['mb']:.0f} "
            f"| {peer['speed']:.0f} ({peer_best:.0f}) | {peer['share']:.0%} | {peer['mb']:.0f} "
            f"| {form.split()[-1]} | "
            f"{own['speed'] / peer['speed']:.2f} ({own['best'] / peer_best:.2f}) |")
    print(f"\nFMA loop: at best {peak:.0f} GFLOP/s.", end="")
    print(" *: no reading of this row found the machine quiet." if busy else "")


main()
