"""The arithmetic limit of this machine: how fast it multiplies matrices of the base's own shapes.

Run as a process of its own, `python -m benchmarks.limit SHAPES`, so that what starts the sides
needs no torch. SHAPES is a JSON list of [outputs, inputs]; the answer is a line of JSON.
"""

import json
import sys
from time import perf_counter

import torch

TOKENS = (256, 1024)
"""Rows of the left matrix: one that stays in cache and a large one; the faster one counts."""
SECONDS = 0.4
"""Time spent on each product; the best of its repeats counts, so a busy moment does no harm."""


def main() -> None:
    """Measure every shape in bf16 and fp32, and print the rates."""
    shapes = [tuple(shape) for shape in json.loads(sys.argv[1])]
    rates = {
        name: {f"{n}x{k}": max(rate(m, n, k, dtype) for m in TOKENS) for n, k in shapes}
        for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32))
    }
    print(json.dumps({"threads": torch.get_num_threads(), "gflops": rates}))


def rate(m: int, n: int, k: int, dtype: torch.dtype) -> float:
    """GFLOP/s of the product (m, k) by (n, k) transposed: the best of as many as fit in SECONDS."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left = torch.randn(m, k, dtype=dtype, device=device)
    right = torch.randn(n, k, dtype=dtype, device=device)
    out = torch.empty(m, n, dtype=dtype, device=device)
    best, begin = float("inf"), perf_counter()
    while perf_counter() - begin < SECONDS:
        start = perf_counter()
        torch.mm(left, right.t(), out=out)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, perf_counter() - start)
    return 2.0 * m * n * k / best / 1e9


if __name__ == "__main__":
    main()
