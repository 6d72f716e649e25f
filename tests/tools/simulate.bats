# pipelines/simulate: its formulas against numbers worked out by hand, its fits, what it refuses,
# and that docs/scaling.md shows what it prints.
bats_require_minimum_version 1.5.0

setup() {
    ROOT=$PWD SIMULATE=$PWD/pipelines/simulate
    export SIMULATE PYTHONDONTWRITEBYTECODE=1
    cd "$BATS_TEST_TMPDIR" || exit
    cat > model.py << 'P'
import importlib.machinery, importlib.util, os
loader = importlib.machinery.SourceFileLoader("simulate", os.environ["SIMULATE"])
m = importlib.util.module_from_spec(importlib.util.spec_from_loader("simulate", loader))
loader.exec_module(m)

class args:
    set = []

a = m.assumptions_of(args, "H100")

def near(x, y, by=1e-9):
    assert abs(x - y) <= by * abs(y), (x, y)
P
}

@test "simulate: parameters, FLOPs, activations and memory of a card, by hand" {
    python3 - << 'P'
from model import *
s = m.Shape(E=2, L=3, H=2, K=1, D=4, F=5, V=7)
# q and o 2x8, k and v 2x4, three of 2x5
assert m.layer_matrices(s) == 16 + 16 + 8 + 8 + 30 == 78
assert m.matrices(s) == 3 * 78 + 14 and m.parameters(s) == 3 * 78 + 28
assert m.parameters(s._replace(tied=True)) == 3 * 78 + 14
# 2 a weight, and half of 4 * seq * heads * size in each layer
assert m.forward_flops(s, 10) == 2 * 248 + 3 * (2 * 10 * 2 * 4) == 976
# both residuals 2 + 2, gate and up 5 + 5, queries and output 8 + 8, keys and values 4 + 4
assert m.layer_activations(s) == 38
assert m.activation_bytes(s, False) == 2 * 3 * 38 and m.activation_bytes(s, True) == 2 * (6 + 38)
# bf16 copy 2, f32 gradient 4, a quarter of 12; the teacher in bf16; 10 tokens; the reserve
run = m.Run("", "", None, "", "H100", 4, 4, 10, 1)
assert m.card_bytes(a, run, s, s, 4, False) == 262 * 9 + 262 * 2 + 5e9 + 10 * 228
# published sizes: 4.5 and 8.03 billion; its FLOPs of a step (arXiv 2407.14679, figure 1)
near(m.parameters(m.SHAPES["llama-8b"]), 8.03e9, 1e-3)
near(m.parameters(m.SHAPES["minitron-4b-width"]), 4.5e9, 5e-3)
near(m.parameters(m.SHAPES["minitron-8b"]), 8.27e9, 1e-3)
near(3 * m.forward_flops(m.SHAPES["minitron-8b"], 4096) * 1152 * 4096, 2.5e17, 0.1)
near(3 * m.forward_flops(m.SHAPES["nemotron-15b"], 4096) * 1152 * 4096, 4.4e17, 0.1)
P
}

@test "simulate: collectives and what the backward pass does not hide, by hand" {
    python3 - << 'P'
from model import *
assert m.collective(a, 1, 1e9) == 0
near(m.collective(a, 8, 3.6e9), 8.4e-6 + 7 * 3.4e-6 + 3.6e9 * 7 / 8 / 360e9)
# 24 cards: 21 hops within nodes, 2 between them; eight links of 30 GB/s are slower than NVLink
slow = {**a, "nic": 30e9}
near(m.collective(slow, 24, 2.4e9), 8.4e-6 + 21 * 3.4e-6 + 2 * 14e-6 + 2.4e9 * 23 / 24 / 240e9)
# a link that takes 1 s for each collective and 1 s for 4 bytes: ready at 1, 2, 3
one = {**a, "collective": 1, "hop.node": 0, "nvlink": 3.0}
assert m.collective(one, 4, 4) == 2
three = [(1, 4), (2, 4), (3, 4)]
def exposed(bytes, ranks=4):
    m.bucket_bytes = lambda a, ranks, size: bytes
    return m.exposed(one, ranks, three)
sizes = m.bucket_bytes
assert exposed(4) == 1 + 3 * 2 - 3  # begins at 1, ends at 7
assert exposed(8) == 2 + 3 + 2 - 3  # two buckets, 8 and 4
assert exposed(99) == 3 + 4 - 3
assert exposed(2) == 1 + 6 * 1.5 - 3  # six of 2
assert exposed(4, ranks=1) == 0
# buckets of 4 Mi values of 4 bytes on up to 8 cards, at most a sixteenth
assert [sizes(a, n, 1e10) for n in (2, 8, 16, 4096)] == [2 ** 24, 2 ** 24, 2 ** 25, 625e6]
# gradients: the head's first, unless it is the embedding's
s = m.Shape(E=2, L=2, H=1, K=1, D=1, F=1, V=7)
layer = 4 * (2 * 2 * 1 * 2 + 3 * 2)
assert m.gradients_of(a, s, 6) == [(0, 56), (3, layer), (6, layer), (6, 56)]
assert m.gradients_of(a, s._replace(tied=True), 6) == [(3, layer), (6, layer), (6, 56)]
near(m.slowest(a, 8), 1 + 0.1 * 0.005)
near(m.slowest(a, 16), 1 + 0.1 * (1 - 0.995 ** 2))
P
}

@test "simulate: checkpoints and failures, beside a drawn run" {
    python3 - << 'P'
import random
from model import *
b = {**a, "mtbf": 100 * 16 / 3600, "restart": 3, "disk.node": 5}
interval, factor = m.with_failures(b, 1e6, 16, 20)  # 16 cards: every 100 s; 2 s to write
assert interval == 20 and abs(1 / factor - (1 - 2 / 20 - (10 + 3) / 100)) < 1e-12
assert m.with_failures(b, 100, 16, 20)[0] == 10
assert m.with_failures({**b, "restart": 100}, 1e6, 16, 20)[1] == m.math.inf
# Failures at random: work of 20 s and 2 s of writing, again after a failure.
random.seed(1)
now, done, work = 0.0, 0, 20000
next_failure = random.expovariate(1 / 400)
interval, factor = m.with_failures({**b, "mtbf": 4 * b["mtbf"]}, 1e6, 16, 20)
while done * interval < work:
    if now + interval + 2 <= next_failure:
        now += interval + 2
        done += 1
    else:
        now = next_failure + 3
        next_failure = now + random.expovariate(1 / 400)
near(now, factor * done * interval, 0.02)
P
}

@test "simulate: a step is the sum of its parts" {
    python3 - << 'P'
from model import *
m.SHAPES["s"] = s = m.Shape(E=64, L=2, H=4, K=2, D=16, F=128, V=512)
exact = {**a, "peak": 1e9, "share": 0.5, "slow.nodes": 0}
run = m.Run("", "", "s", "s", "H100", 4, 6, 32, 6 * 32 * 100)
r = m.simulate(exact, run)
# 6 sequences on 4 cards: two each; three passes of the student and one of the teacher
sequence = 32 * 4 * m.forward_flops(s, 32) / 0.5e9
assert (r["sequences_per_card"], r["idle"], r["recompute"], r["fits"]) == (2, 0, False, True)
near(r["losses_seconds"]["rows that do not divide, idle cards"], 0.5 * sequence)
others = list(r["losses_seconds"].values())[1:-1]  # without idle cards and failures
near(r["step_seconds"], 2 * sequence + sum(others))
near(r["tokens_per_second"], 6 * 32 / r["step_seconds"])
near(r["hours"], 100 * r["step_seconds"] / 3600, 1e-3)
assert r["largest_loss"] == "rows that do not divide, idle cards"
assert m.simulate(exact, run._replace(cards=8))["idle"] == 2
# without room for activations, layers are computed again, all but the head
full = m.card_bytes(exact, run, s, s, 4, False)
again = m.simulate({**exact, "memory": full - 1}, run)
assert again["recompute"] and again["fits"]
near(again["losses_seconds"]["layers computed again"],
     2 * 32 * (m.forward_flops(s, 32) - 2 * 64 * 512) / 0.5e9)
assert not m.simulate({**exact, "memory": 1}, run)["fits"]
P
}

@test "simulate: the fits find what made the readings" {
    python3 - << 'P' > processes
import json
for n in 4, 1, 2:
    seconds = 10 / min(n, 2) + 2 * 1e9 * (n - 1) / n / 4e9
    for slower in 2, 1, 3:
        print(json.dumps(dict(processes=n, cores=2, step_seconds=seconds * slower,
                              gradient_bytes=1e9)))
P
    "$SIMULATE" processes processes --json > fitted
    "$SIMULATE" processes < processes | grep -q '| 4 | 5.38 | 5.38 | 0.93 | 4e9 |'
    python3 - << 'P' > threads
import json
for n in 1, 2, 4:
    print(json.dumps(dict(row="train X", threads=n, tokens_per_second=1 / (0.2 + 0.8 / n),
                          serial_share=0.1)))
print(json.dumps(dict(row="train X", threads=4, tokens_per_second=1e-3, serial_share=0.2)))
P
    "$SIMULATE" threads threads --json > rows
    python3 - << 'P'
import json
fitted = [json.loads(l) for l in open("fitted")]
assert [r["processes"] for r in fitted] == [1, 2, 4]
for r in fitted:
    assert abs(r["link_bytes_per_second"] / 4e9 - 1) < 1e-6
    assert abs(r["predicted_seconds"] / r["step_seconds"] - 1) < 1e-6
row, = (json.loads(l) for l in open("rows"))
assert row["serial_counted"] == 0.1 and abs(row["serial_fitted"] - 0.2) < 1e-9
assert abs(row["speedup_4"] - 1 / 0.4) < 1e-9 and abs(row["speedup_16"] - 4) < 1e-9
P
}

@test "simulate: published runs; every assumption has a source" {
    "$SIMULATE" published --json > published
    "$SIMULATE" assumptions --json > assumptions
    python3 - << 'P'
import json
runs = [json.loads(l) for l in open("published")]
fitted = [r for r in runs if r["run"] in ("Llama 3.1 8B, 8 H100", "Llama 3 8B, 64 A100")]
assert len(fitted) == 2 and all(abs(r["ratio"] - 1) < 0.01 for r in fitted), fitted
scaled, = (r for r in runs if r["run"] == "Llama 3.1 8B, 128 H100")  # not fitted
assert abs(scaled["ratio"] - 1) < 0.03, scaled
assert all(r["source"] for r in runs)
assert all(len(json.loads(l)["source"]) > 10 for l in open("assumptions"))
P
}

@test "simulate: docs/scaling.md shows what it prints" {
    for tables in assumptions published plan 'plan --round-batch'; do
        # shellcheck disable=SC2086
        "$SIMULATE" $tables > printed
        run -1 grep -vxFf "$ROOT/docs/scaling.md" printed
    done
}

@test "simulate: own models, other assumptions, and what is refused" {
    "$SIMULATE" plan --student "$ROOT/pipelines/teacher/config.json" --teacher none --cards 8 \
        --json --set price=10 --seq 512 > own
    python3 -c '
import json
r = json.load(open("own"))
assert abs(r["dollars"] - 80 * r["hours"]) < 1e-9 and r["fits"]'
    "$SIMULATE" plan --student llama-8b --cards 8 | grep -q '| does not fit a card |'
    run -1 "$SIMULATE" plan --set speed=3
    [[ $output == "simulate: --set: no assumption speed; "* ]]
    run -1 "$SIMULATE" plan --set price=dear
    [ "$output" = "simulate: --set price must be a number, not dear" ]
    run -1 "$SIMULATE" plan --student none.json
    [[ $output == "simulate: none.json: neither a shape (llama-8b, "* ]]
    run -2 "$SIMULATE" plan --cards 0
    [[ $output == *"numbers of cards must be at least 1"* ]]
    echo '{"processes": 1, "cores": 2, "step_seconds": 1, "gradient_bytes": 1}' > one
    run -1 "$SIMULATE" processes one
    [ "$output" = "simulate: processes: needs readings of 1 and of 2 processes" ]
    run -1 "$SIMULATE" threads one
    [[ $output == "simulate: threads: one does not have such readings: "* ]]
}
