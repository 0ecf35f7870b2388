"""Exactness, accuracy, sizes and speed on real networks: the README's table.

    QCOMP_ZOO=... python benchmarks/zoo_report.py [NETWORK ...] [--per-tensor] [--guard]

For each network: differing bits between library and specification, and top-1 (or output SQNR where
the data has no labels) over the evaluation data; arena against the largest live sum; sizes; compile
time; median milliseconds of a run on one thread.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import qcomp
from qcomp.benchmark import bench_directory
from qcomp.quant.metrics import sqnr_db

NETWORKS = (
    "mobilenetv2_tf",
    "mobilenetv1_025_bn",
    "squeezenet1_1",
    "resnet20_cifar10",
    "mnist",
    "yolox_nano",
    "fastestdet",
)
CALIBRATION_SAMPLES = 100


def load_zoo() -> ModuleType:
    """The zoo's loader, from QCOMP_ZOO."""
    root = Path(os.environ.get("QCOMP_ZOO", Path(__file__).parent / "../../shared/zoo"))
    spec = importlib.util.spec_from_file_location("zoo", root / "zoo.py")
    if spec is None or spec.loader is None:
        sys.exit(f"no zoo at {root}; set QCOMP_ZOO")
    module = importlib.util.module_from_spec(spec)
    sys.modules["zoo"] = module
    spec.loader.exec_module(module)
    return module


def differing_bits(arguments: tuple[str, np.ndarray]) -> tuple[int, int]:
    """(differing bits, compared bits) of library and specification on some samples."""
    directory, x = arguments
    net = qcomp.load(directory)
    q = net.quantized(x)
    got, expected = net.run_integer(q), net.specification_integer(q)
    pairs = zip(got, expected, strict=True) if isinstance(got, tuple) else [(got, expected)]
    different = compared = 0
    for a, b in pairs:
        different += int(np.unpackbits((a ^ b).view(np.uint8)).sum())
        compared += a.nbytes * 8
    return different, compared


def first_output(answer: Any) -> np.ndarray:
    array: np.ndarray = answer[0] if isinstance(answer, tuple) else answer
    return array.reshape(len(array), -1)


def measure(zoo: ModuleType, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    network = zoo.load(name)
    calibration, _ = network.data("calibration", CALIBRATION_SAMPLES)
    x, labels = network.data("evaluation", options.samples)
    config = qcomp.QuantizationConfig(per_channel=not options.per_tensor)
    began = time.perf_counter()
    net = qcomp.compile(str(network.model), calibration=calibration, config=config)
    seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        net.save(folder)
        library = next(Path(folder).glob("*.so")).stat().st_size
        parts = [(folder, part) for part in np.array_split(x, max(len(x) // 8, 1))]
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            counts = pool.map(differing_bits, parts)
        milliseconds = bench_directory(Path(folder)).median_us / 1000
        guard = guarded_run(net, Path(folder), x) if options.guard else {}
    reference = zoo.run_float(network, x)
    answer = first_output(net(x))
    row: dict[str, Any] = {
        "network": name,
        "samples": len(x),
        "differing_bits": sum(c[0] for c in counts),
        "compared_bits": sum(c[1] for c in counts),
        "sqnr_db": round(sqnr_db(reference, answer), 1),
        "arena": net.arena_bytes,
        "arena_ratio": round(net.arena_bytes / net.artifact.live_bytes, 3),
        "weights": net.weights_bytes,
        "library": library,
        "so_minus_weights": library - net.weights_bytes,
        "ms": round(milliseconds, 3),
        "compile_s": round(seconds, 1),
    }
    if (labels >= 0).all() and network.dataset != "toyadmos":
        row["top1_float"] = round(network.accuracy(reference, labels), 4)
        row["top1_integer"] = round(network.accuracy(answer, labels), 4)
        row["agreement"] = round(float((reference.argmax(1) == answer.argmax(1)).mean()), 4)
    return row | guard


def guarded_run(net: qcomp.CompiledNetwork, folder: Path, x: np.ndarray) -> dict[str, Any]:
    """All samples through the C program whose buffers end, then begin, at a forbidden page."""
    sys.path.insert(0, str(Path(__file__).parent / "../tests/c"))
    from guard_check import guard_check  # type: ignore[import-not-found]

    q = net.quantized(x)
    answer = net.run_integer(q)
    outputs = answer if isinstance(answer, tuple) else (answer,)
    split = [o.reshape(len(x), *i.shape) for o, i in zip(outputs, net.outputs, strict=True)]
    result = guard_check(folder, [np.reshape(q, (len(x), *net.inputs[0].shape))], split)
    return {"guard_clean": result.clean, "guard": result}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--per-tensor", action="store_true")
    parser.add_argument("--guard", action="store_true", help="also tests/c's guard pages")
    parser.add_argument("--samples", type=int, default=None)
    options = parser.parse_args()
    zoo = load_zoo()
    for name in options.networks:
        print(measure(zoo, name, options), flush=True)


if __name__ == "__main__":
    main()
