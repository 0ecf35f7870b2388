"""What a compilation costs beside NNCF's `quantize` and OpenVINO's compilation: processor seconds.

    python benchmarks/compile_cost.py MODEL.onnx SAMPLES.npy [--peers-python PYTHON]

SAMPLES holds one sample a row. Everybody has one processor and one thread, a process of its own and
all samples; imports do not count, and no code is kept from earlier compilations. Seconds are of the
processor, as those of the clock tell of what else runs. `benchmarks/against_peers.py` says what the
environment of the peers holds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RECIPES = ("fast", "auto")
NNCF = "nncf"


def spent(work: Callable[[], Any]) -> dict[str, float]:
    """Processor seconds of it, and the largest size of this process in megabytes."""
    began = os.times()
    work()
    end = os.times()
    seconds = sum(end[:4]) - sum(began[:4])
    return {
        "seconds": seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def qcomp_work(model: Path, samples: list[Any], recipe: str) -> Callable[[], Any]:
    import llvmlite.binding  # noqa: F401
    import onnxruntime  # noqa: F401

    import qcomp
    import qcomp.compiler
    import qcomp.exporters.onnx.model
    import qcomp.targets.cpu.target

    return lambda: qcomp.compile(
        str(model), calibration=samples, recipe=recipe, object_cache=None, name="net"
    )


def nncf_work(model: Path, samples: list[Any]) -> Callable[[], Any]:
    import nncf
    import openvino

    def work() -> None:
        core = openvino.Core()
        core.set_property("CPU", {"INFERENCE_NUM_THREADS": 1})
        network = core.read_model(model)
        quantized = nncf.quantize(network, nncf.Dataset(samples), subset_size=len(samples))
        core.compile_model(quantized, "CPU")

    return work


def measured(python: Path, who: str, model: Path, samples: Path) -> dict[str, float]:
    """By a process of that interpreter, on the first processor."""
    command = [str(python), __file__, str(model), str(samples), "--only", who]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--peers-python", type=Path)
    parser.add_argument("--only", choices=(*RECIPES, NNCF), help="in this process")
    options = parser.parse_args()
    if options.only:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        rows = np.load(options.samples)
        samples = [rows[i : i + 1] for i in range(len(rows))]
        if options.only == NNCF:
            work = nncf_work(options.model, samples)
        else:
            work = qcomp_work(options.model, samples, options.only)
        print("\n" + json.dumps(spent(work)))
        return
    ours = {who: measured(Path(sys.executable), who, *paths(options)) for who in RECIPES}
    theirs = {}
    if options.peers_python is not None:
        theirs[NNCF] = measured(options.peers_python.expanduser(), NNCF, *paths(options))
    for who, found in (theirs | ours).items():
        ratio = f", {found['seconds'] / theirs[NNCF]['seconds']:.1f} x" if theirs else ""
        print(f"{who:>6} {found['seconds']:7.2f} s{ratio}, peak {found['peak_mb']:.0f} MB")


def paths(options: argparse.Namespace) -> tuple[Path, Path]:
    return options.model, options.samples


if __name__ == "__main__":
    main()
