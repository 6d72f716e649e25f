"""The peer of `make bench`: the same row in PyTorch, as a user would write it: plain modules,
scaled_dot_product_attention, fused AdamW, gradient clipping, eager or torch.compile. Shapes,
batches, rows and the accounting of FLOPs are those of bench.c.

usage: torch_bench.py [--compile] [--steps N] [--threads N] ROW
ROW: 'eval SHAPE', 'train SHAPE' or 'kd TEACHER STUDENT'
Prints one JSON line with the keys of bench.c that a peer has, and `tuned`: whether the variables
below are set, without which its large tensors are mapped and unmapped at every step (two to three
times slower)."""
import argparse
import json
import os
import resource
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

#              E   L  H   K   D    F      V  B    T
SHAPES = {
    "L15": (288, 6, 6, 6, 48, 768, 32000, 8, 256),
    "L110": (768, 12, 12, 12, 64, 2048, 32000, 4, 256),
    "S135": (576, 30, 9, 3, 64, 1536, 49152, 2, 512),
    "S90": (480, 30, 9, 3, 64, 1152, 49152, 2, 512),
    "tiny": (64, 2, 4, 2, 16, 128, 512, 2, 64),
}
TUNED = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}


class Attention(nn.Module):
    def __init__(self, E, H, K, D):
        super().__init__()
        self.H, self.K, self.D = H, K, D
        self.q, self.k, self.v = (nn.Linear(E, n * D, bias=False) for n in (H, K, K))
        self.o = nn.Linear(H * D, E, bias=False)

    def turn(self, x, cos, sin):
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat((-b, a), -1) * sin

    def forward(self, x, cos, sin):
        heads = lambda y, n: y.unflatten(-1, (n, self.D)).transpose(1, 2)
        q, k, v = heads(self.q(x), self.H), heads(self.k(x), self.K), heads(self.v(x), self.K)
        y = F.scaled_dot_product_attention(self.turn(q, cos, sin), self.turn(k, cos, sin), v,
                                           is_causal=True, enable_gqa=self.H != self.K)
        return self.o(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, E, H, K, D, width):
        super().__init__()
        self.attention = Attention(E, H, K, D)
        self.norms = nn.ModuleList(nn.RMSNorm(E, eps=1e-5) for _ in range(2))
        self.gate, self.up = nn.Linear(E, width, bias=False), nn.Linear(E, width, bias=False)
        self.down = nn.Linear(width, E, bias=False)

    def forward(self, x, cos, sin):
        x = x + self.attention(self.norms[0](x), cos, sin)
        y = self.norms[1](x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Model(nn.Module):
    def __init__(self, E, L, H, K, D, width, V, T):
        super().__init__()
        self.embedding = nn.Embedding(V, E)
        self.blocks = nn.ModuleList(Block(E, H, K, D, width) for _ in range(L))
        self.norm = nn.RMSNorm(E, eps=1e-5)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, 0, 0.02)
        angles = torch.outer(torch.arange(T), 10000.0 ** (-torch.arange(0, D, 2) / D)).repeat(1, 2)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, ids):
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return F.linear(self.norm(x), self.embedding.weight)


def make(name):
    *sizes, _, T = SHAPES[name]
    return Model(*sizes, T)


def flops(name, T):
    E, L, H, K, D, width, V, _, _ = SHAPES[name]
    return 2 * (L * (2 * E * H * D + 2 * E * K * D + 3 * E * width) + E * V) + 4 * L * T * H * D


def make_step(task, names, compiled):
    """The function that runs one step of the row."""
    B, T = SHAPES[names[-1]][-2:]
    student = make(names[-1])
    teacher = make(names[0]).requires_grad_(False) if task == "kd" else None
    V = min(SHAPES[n][6] for n in names)
    ids = torch.randint(V, (B, T + 1))
    x, labels = ids[:, :-1].contiguous(), ids[:, 1:].flatten()
    model = torch.compile(student) if compiled else student
    frozen = torch.compile(teacher) if compiled and teacher else teacher
    if task == "eval":
        def step():
            with torch.inference_mode():
                return F.cross_entropy(model(x).flatten(0, 1), labels).item()
        return step
    optimizer = torch.optim.AdamW(student.parameters(), 1e-4, (0.9, 0.95), weight_decay=0.1,
                                  fused=True)

    def loss():
        if task == "train":
            return F.cross_entropy(model(x).flatten(0, 1), labels)
        with torch.no_grad():
            target = frozen(x).flatten(0, 1).log_softmax(-1)
        return F.kl_div(
            model(x).flatten(0, 1).log_softmax(-1), target, log_target=True, reduction="batchmean")

    def step():
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        return value.item()
    return step


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("row")
    ap.add_argument("--compile", action="store_true")
    ap.add_argument("--steps", type=int, default=5)
    ap.add_argument("--threads", type=int, default=os.cpu_count())
    args = ap.parse_args()
    task, *names = args.row.split()
    if task not in ("eval", "train", "kd") or len(names) != 1 + (task == "kd") or any(
            n not in SHAPES for n in names):
        ap.error(f"no row {args.row!r}")
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    step = make_step(task, names, args.compile)
    B, T = SHAPES[names[-1]][-2:]
    work = flops(names[-1], T) * (1 if task == "eval" else 3) + (flops(names[0], T)
                                                                 if task == "kd" else 0)
    seconds = []
    for i in range(args.steps + 2):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    seconds = seconds[2:]
    median, best = B * T / statistics.median(seconds), B * T / min(seconds)
    print(
        json.dumps({
            "row": args.row,
            "peer": f"PyTorch {torch.__version__} {'compiled' if args.compile else 'eager'}",
            "threads": args.threads, "tuned":
                all(os.environ.get(k) == v for k, v in TUNED.items()) and
                os.environ.get("OMP_NUM_THREADS") == str(args.threads), "tokens_per_second": round(
                    median,
                    1), "tokens_per_second_best": round(best,
                                                        1), "gflops": round(work * median / 1e9, 1),
            "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 1000000}))


main()
