"""Exactness, accuracy, sizes and speed on real networks: the README's table.

    QCOMP_ZOO=... python benchmarks/zoo_report.py [NETWORK ...] [--target T] [--per-tensor]
        [--activation-bits 16] [--threads N ...] [--guard] [--samples N]

For each network: differing bits between library and specification, for every instruction set of the
library that this machine runs and every number of threads, and top-1 (or output SQNR where the data
has no labels) over the evaluation data; arena against the largest live sum; sizes; seconds from the
end of calibration to the saved directory; median milliseconds of a run on one thread.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from compile_time import WHOLE, timed_compile

import qcomp
from qcomp.quant.metrics import sqnr_db
from qcomp.runtime.benchmark import bench_directory

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

Way = tuple[str, int]  # an instruction set, and how many threads share the work of a run


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


def ways(net: qcomp.CompiledNetwork, threads: list[int]) -> list[Way]:
    """All in which this machine can run a network."""
    return [(isa, n) for isa in net.runnable_isas() for n in threads]


def differing_bits(arguments: tuple[str, list[int], np.ndarray]) -> tuple[Counter[Way], int]:
    """Differing bits of library and specification on some samples; compared bits of each way."""
    directory, threads, x = arguments
    net = qcomp.load(directory)
    q = net.quantized(x)
    expected = all_outputs(net.specification_integer(q))
    different: Counter[Way] = Counter()
    for isa, n in ways(net, threads):
        net.use_isa(isa)
        for a, b in zip(all_outputs(net.run_integer(q, threads=n)), expected, strict=True):
            different[isa, n] += int(np.unpackbits((a ^ b).view(np.uint8)).sum())
    return different, 8 * sum(output.nbytes for output in expected)


def all_outputs(answer: Any) -> tuple[np.ndarray, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


def first_output(answer: Any) -> np.ndarray:
    array = all_outputs(answer)[0]
    return array.reshape(len(array), -1)


def measure(zoo: ModuleType, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    network = zoo.load(name)
    calibration, _ = network.data("calibration", CALIBRATION_SAMPLES)
    x, labels = network.data("evaluation", options.samples)
    config = qcomp.QuantizationConfig(
        per_channel=not options.per_tensor, activation_bits=options.activation_bits
    )
    with tempfile.TemporaryDirectory() as folder:
        net, seconds = timed_compile(
            str(network.model), Path(folder), options.target, calibration=calibration, config=config
        )
        library = next(Path(folder).glob("*.so")).stat().st_size
        parts = np.array_split(x, max(len(x) // 8, 1))
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            counts = pool.map(differing_bits, [(folder, options.threads, p) for p in parts])
        milliseconds = bench_directory(Path(folder)).median_us / 1000
        guard = guarded_runs(net, Path(folder), x, options.threads) if options.guard else {}
    different: Counter[Way] = sum((c[0] for c in counts), Counter())
    reference = zoo.run_float(network, x)
    answer = first_output(net(x))
    row: dict[str, Any] = {
        "network": name,
        "target": net.target,
        "samples": len(x),
        "differing_bits": {label(w): different[w] for w in ways(net, options.threads)},
        "compared_bits": sum(c[1] for c in counts),
        "sqnr_db": round(sqnr_db(reference, answer), 1),
        "arena": net.arena_bytes,
        "arena_ratio": round(net.arena_bytes / net.artifact.memory.live, 3),
        "weights": net.weights_bytes,
        "library": library,
        "so_minus_weights": library - net.weights_bytes,
        "ms": round(milliseconds, 3),
        "live": net.artifact.memory.live,
        "compile_s": round(seconds[WHOLE], 1),
    }
    if (labels >= 0).all() and network.dataset != "toyadmos":
        row["top1_float"] = round(network.accuracy(reference, labels), 4)
        row["top1_integer"] = round(network.accuracy(answer, labels), 4)
        row["agreement"] = round(float((reference.argmax(1) == answer.argmax(1)).mean()), 4)
    return row | guard


def label(way: Way) -> str:
    isa, threads = way
    return isa if threads == 1 else f"{isa} x{threads}"


def guarded_runs(
    net: qcomp.CompiledNetwork, folder: Path, x: np.ndarray, threads: list[int]
) -> dict[str, Any]:
    """All samples through the C program whose buffers end, then begin, at a forbidden page."""
    sys.path.insert(0, str(Path(__file__).parent / "../tests/c"))
    from guard_check import guard_check  # type: ignore[import-not-found]

    q = net.quantized(x)
    outputs = zip(all_outputs(net.run_integer(q)), net.outputs, strict=True)
    vectors = (
        [np.reshape(q, (len(x), *net.inputs[0].shape))],
        [array.reshape(len(x), *output.shape) for array, output in outputs],
    )
    results = {
        label((isa, n)): guard_check(folder, *vectors, isa=isa, threads=n)
        for isa, n in ways(net, threads)
    }
    broken = {way: result for way, result in results.items() if not result.clean}
    runs = sum(result.runs for result in results.values())
    return {"guard_clean": not broken, "guard_runs": runs, "guard_broken": broken}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--target", default="native")
    parser.add_argument("--per-tensor", action="store_true")
    parser.add_argument("--activation-bits", type=int, default=8)
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--guard", action="store_true", help="also tests/c's guard pages")
    parser.add_argument("--samples", type=int, default=None)
    options = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # of the processes that compute the specification
    zoo = load_zoo()
    for name in options.networks:
        print(measure(zoo, name, options), flush=True)


if __name__ == "__main__":
    main()
