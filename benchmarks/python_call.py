"""What a call from Python costs beside the generated code itself.

    python benchmarks/python_call.py MODEL.onnx

Microseconds of `net(x)`, of the code (a compiled loop calls it), and what is between them: the
least of many short measurements, which other programs disturb least.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

import qcomp

CALLS, TIMES = 200, 2000


def least(work: Callable[[], object]) -> float:
    """Seconds of the shortest of TIMES measurements."""
    shortest = float("inf")
    for _ in range(TIMES):
        began = time.perf_counter()
        work()
        shortest = min(shortest, time.perf_counter() - began)
    return shortest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    options = parser.parse_args()
    net = qcomp.compile(options.model, recipe="data-free")
    (info,) = net.inputs
    x = np.random.default_rng(0).normal(size=info.shape).astype(np.float32)

    def calls() -> None:
        for _ in range(CALLS):
            net(x)

    arrays = [np.zeros(t.shape, t.dtype) for t in (*net.inputs, *net.outputs)]
    loop = net.entry().repeated([*arrays, net.artifact.memory.allocated()])
    net(x)
    python, code = (least(work) / CALLS * 1e6 for work in (calls, lambda: loop(CALLS)))
    print(f"net(x) {python:.2f} us, the code {code:.2f} us, beside it {python - code:.2f} us")


if __name__ == "__main__":
    main()
