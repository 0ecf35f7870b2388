"""Results of `arithmetic="tflm"` against TensorFlow Lite Micro itself.

    python benchmarks/tflm_bits.py --with PYTHON [--sets 60]

Files of one operator each, with random scales, zero points, weights and options, are lowered here,
and run by TFLM's interpreter under PYTHON, which has `pip install --pre tflite-micro`. Printed are,
by operator and type, the sets that both take and those in which an integer differs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
CASES = [str(ROOT / "tests/frontends/tflite"), str(ROOT / "tests/support")]
TYPES = (np.int8, np.int16)

CHILD = """
import sys, numpy as np
from pathlib import Path
from tflite_micro.python.tflite_micro import runtime
for path in sorted(Path(sys.argv[1]).glob("*.tflite")):
    feeds = np.load(path.with_suffix(".npz"))
    try:
        net = runtime.Interpreter.from_bytes(path.read_bytes(), arena_size=1 << 20)
        for i in range(len(feeds.files) - 1):
            net.set_input(feeds[f"x{i}"], i)
        net.invoke()
    except RuntimeError as error:
        continue
    results = [net.get_output(i) for i in range(int(feeds["outputs"]))]
    np.savez(path.with_suffix(".y.npz"), *results)
"""


def cases(sets: int) -> Iterator[tuple[str, Any]]:
    """The operator, and a net with random parameters."""
    from exact_cases import EXACT, operator_of
    from random_nets import PerTensorNet
    from test_tflite_bits import net_of

    for dtype in TYPES:
        for name in EXACT:
            what = f"{operator_of(name)} {np.dtype(dtype).name}"
            yield from ((what, net_of(name, dtype, seed)) for seed in range(sets))
        for seed in range(sets):
            net = PerTensorNet(dtype, rng=np.random.default_rng(seed))
            EXACT["FULLY_CONNECTED"](net)
            yield f"FULLY_CONNECTED {np.dtype(dtype).name}, one scale", net


def main() -> None:
    sys.path[:0] = CASES
    from test_tflite_bits import lowered

    from qcomp.config import QuantizationConfig
    from qcomp.errors import CompileError
    from qcomp.ir.evaluate import evaluate

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--with", dest="python", required=True)
    parser.add_argument("--sets", type=int, default=60)
    options = parser.parse_args()
    tflm = QuantizationConfig(arithmetic="tflm")
    refused: dict[str, str] = {}
    counted = {key: Counter[str]() for key in ("both", "differ", "not in TFLM")}
    values = wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        known = []
        for what, net in cases(options.sets):
            try:
                graph = lowered(net.model, tflm)
            except CompileError as error:
                refused[what] = str(error).splitlines()[0]
                continue
            path, feeds = Path(folder, f"{len(known):06}.tflite"), net.feeds()
            path.write_bytes(net.model)
            arrays = {f"x{i}": x for i, x in enumerate(feeds)}
            np.savez(path.with_suffix(".npz"), outputs=len(net.outputs), **arrays)
            ours = evaluate(graph, dict(zip(graph.inputs, feeds, strict=True)))
            known.append((what, path.with_suffix(".y.npz"), list(ours.values())))
        subprocess.run([options.python, "-c", CHILD, folder], stderr=subprocess.DEVNULL, check=True)
        for what, found, ours in known:
            if not found.exists():
                counted["not in TFLM"][what] += 1
                continue
            theirs = np.load(found)
            pairs = [(y, theirs[f"arr_{i}"].reshape(y.shape)) for i, y in enumerate(ours)]
            differ = sum(int((a != b).sum()) for a, b in pairs)
            values, wrong = values + sum(a.size for a, _ in pairs), wrong + differ
            counted["both"][what] += 1
            counted["differ"][what] += differ > 0
    for what in sorted({what for what, _, _ in known}):
        print(what, ", ".join(f"{key}: {found[what]}" for key, found in counted.items()))
    for what, why in refused.items():
        print(f"{what} refused: {why}")
    print(f"{values} values, {wrong} differ")


if __name__ == "__main__":
    main()
