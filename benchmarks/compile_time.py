"""Where the seconds go between the end of calibration and the saved directory.

    python benchmarks/compile_time.py MODEL.onnx [--calibration NPZ] [--target T ...] [--runs N]

Prints the stages of each target, the median of N compilations. Without data it calibrates on 8
samples of normal noise.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import qcomp
from qcomp.frontends import import_model

# The function of each stage, as its caller knows it. A stage inside of another counts there too.
STAGES = {
    "calibration": "qcomp.calibration.evidence.Evidence.statistics",
    "trials": "qcomp.compiler.decide",
    "lowering": "qcomp.targets.cpu.target.lower_lengths",
    "objects": "qcomp.targets.cpu.target.build_objects",
    "LLVM reads": "llvmlite.binding.parse_assembly",
    "LLVM generates": "llvmlite.binding.TargetMachine.emit_object",
    "SQNR": "qcomp.assessment.measured_accuracy",
    "vectors": "qcomp.runtime.store.make_vectors",
    "linking": "qcomp.targets.cpu.runtime.shared_library",
}
WHOLE = "after calibration"
Seconds = dict[str, float]


def timed_compile(
    model: Any, folder: Path, target: str, **arguments: Any
) -> tuple[qcomp.CompiledNetwork, Seconds]:
    """Compile and save into `folder`; the seconds of each stage, and of all after calibration."""
    spent: Seconds = {}
    ends: dict[str, float] = {}
    with ExitStack() as patches:
        for stage, path in STAGES.items():
            patches.enter_context(_timed(stage, path, spent, ends))
        net = qcomp.compile(model, target, object_cache=None, **arguments)
        net.save(folder)
        end = time.perf_counter()
    after = [r.name for r in net.records].index("annotate-ranges")
    spent["passes"] = sum(record.seconds for record in net.records[after:])
    spent["printing IR"] = spent["objects"] - spent["LLVM reads"] - spent["LLVM generates"]
    spent[WHOLE] = end - max(ends["calibration"], ends["trials"])
    return net, spent


@contextmanager
def _timed(stage: str, path: str, spent: Seconds, ends: dict[str, float]) -> Iterator[None]:
    original = _found(path)

    def measured(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        answer = original(*arguments, **options)
        ends[stage] = time.perf_counter()
        spent[stage] = spent.get(stage, 0.0) + ends[stage] - began
        return answer

    with mock.patch(path, measured):
        yield


def _found(path: str) -> Callable[..., Any]:
    """What mock.patch would replace."""
    owner, _, name = path.rpartition(".")
    try:
        parent: Any = importlib.import_module(owner)
    except ModuleNotFoundError:  # a class
        parent = _found(owner)
    function: Callable[..., Any] = getattr(parent, name)
    return function


def noise(model: str, samples: int) -> list[dict[str, np.ndarray]]:
    """Normal samples for every input of a network."""
    graph = import_model(model).graph
    shapes = {name: graph.type(id).shape for name, id in graph.inputs.items()}
    random = np.random.default_rng(0)
    return [
        {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        for _ in range(samples)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--calibration", help="an .npz or a directory of .npy")
    parser.add_argument("--target", nargs="+", default=["native", "x86-64"])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    data = options.calibration or noise(options.model, 8)
    for target in options.target:
        runs = []
        for _ in range(options.runs):
            with tempfile.TemporaryDirectory() as folder:
                runs.append(timed_compile(options.model, Path(folder), target, calibration=data)[1])
        print(f"\n{Path(options.model).stem}, {target}")
        for stage in (WHOLE, "passes", "lowering", "printing IR", *list(STAGES)[4:]):
            times = [run.get(stage, 0.0) for run in runs]
            print(f"{stage:>18} {statistics.median(times):7.3f} s  (least {min(times):.3f})")


if __name__ == "__main__":
    main()
