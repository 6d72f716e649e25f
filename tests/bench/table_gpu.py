"""Readings of pipelines/bench-gpu (JSON lines on stdin: rows of `bench --device cuda --ops`, of the
peer with "peer", and of single ops) -> Markdown: a table of rows with both speeds, the ratio, model
FLOP utilisation and memory, and one of the ops with their share of what the card can do. Of the
peer's forms the fastest counts. A row that one side could not run says so, and below why."""
import json
import statistics
import sys


def main():
    readings = [json.loads(line) for line in sys.stdin if line.startswith("{")]
    rows = [r for r in readings if "row" in r]
    print(
        "| row | tokens | pare tok/s | TFLOP/s | of 989 | GB | PyTorch tok/s | of 989 | GB "
        "| ratio |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(r["row"] for r in rows):
        own = [r for r in rows if r["row"] == name and "peer" not in r and "tokens_per_second" in r]
        peer = [r for r in rows if r["row"] == name and "peer" in r and "tokens_per_second" in r]
        cells = [name]
        if own:
            speed = statistics.median(r["tokens_per_second"] for r in own)
            cells += [
                f"{own[0]['batch']} x {own[0]['seq']}", f"{speed:.0f}",
                f"{statistics.median(r['tflops'] for r in own):.0f}",
                f"{statistics.median(r['mfu_of_989'] for r in own):.1%}",
                f"{max(r['used_gb'] for r in own):.1f}"]
        else:
            cells += ["", "did not run", "", "", ""]
        forms = {r.get("form") for r in peer}
        if peer:
            speeds = lambda form: [r["tokens_per_second"] for r in peer if r.get("form") == form]
            best = max(forms, key=lambda form: statistics.median(speeds(form)))
            peer = [r for r in peer if r.get("form") == best]
            other = statistics.median(r["tokens_per_second"] for r in peer)
            cells += [
                f"{other:.0f} {best}", f"{statistics.median(r['mfu_of_989'] for r in peer):.1%}",
                f"{max(r['peak_gb'] for r in peer):.1f}"]
        else:
            cells += ["did not run", "", ""]
        cells.append(f"{speed / other:.2f}" if own and peer else "")
        print("| " + " | ".join(cells) + " |")
    side = lambda r: "PyTorch " + r["form"] if "peer" in r else "pare"
    for line in dict.fromkeys(
            f"\nRow {r['row']}, {side(r)}: {r['failed']}" for r in rows if "failed" in r):
        print(line)
    for r in rows:
        if r.get("product_tflops"):
            print(
                f"\nThe card in row {r['row']}: a large product {r['product_tflops']:.0f} TFLOP/s, "
                f"a large copy {r['copy_gb_per_second']:.0f} GB/s."
            )
            break
    print("\n| row | op | calls | ms | share | of |\n|---|---|---|---|---|---|")
    for r in readings:
        if "op" in r:
            print(
                f"| {r['of_row']} | {r['op']} {r['direction']} | {r['calls']} | {r['ms']:.2f} "
                f"| {r['share']:.0%} | {r['of']} |"
            )


main()
