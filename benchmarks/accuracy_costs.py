"""What calibration and the sensitivity table of MobileNetV2 cost: seconds and peak memory.

Each runs in a process of its own, so that the peak is its own. The calibration reads its data from
a file; that of the sensitivity table is in memory.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
from accuracy_table import Row

import qcomp
from qcomp.calibration.collect import collect
from qcomp.calibration.evidence import Evidence
from qcomp.frontends import import_model
from qcomp.ir.graph import Graph
from qcomp.quant.estimators import ESTIMATORS
from qcomp.quantizer import Quantizer

PROCESSES = 2
SENSITIVITY_SAMPLES = 100


def peak_megabytes() -> float:
    """The most memory that this process has held (getrusage's figure may be the parent's)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def forget_peak() -> None:
    """The peak counts from here on (proc_pid_clear_refs(5))."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def calibration(samples: int) -> Callable[[ModuleType, str], Row]:
    """Every estimator's range of every activation, after one pass over the data."""

    def measure(zoo: ModuleType, name: str) -> Row:
        graph = prepared(str(zoo.load(name).model))
        with images(zoo, name, samples) as file:
            forget_peak()
            before = peak_megabytes()
            start = time.perf_counter()
            statistics = collect(graph, file)
            ranges = [
                statistics.range(id, estimator)
                for id in statistics.mnemonics
                for estimator in ESTIMATORS
            ]
            seconds = time.perf_counter() - start
        return {
            "samples": samples,
            "ranges": len(ranges),
            "seconds": seconds,
            "peak_mb": peak_megabytes(),
            "before_mb": before,
        }

    return measure


def prepared(model: str) -> Graph:
    """The float graph that is calibrated."""
    imported = import_model(model)
    return Quantizer(imported.graph, imported.form, Evidence(None, (-1.0, 1.0))).normalized


@contextmanager
def images(zoo: ModuleType, name: str, samples: int) -> Iterator[str]:
    """A .npy file of them; none is in memory any more."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/images.npy", zoo.load(name).data("calibration", samples)[0])
        yield f"{folder}/images.npy"


def sensitivity(zoo: ModuleType, name: str) -> Row:
    """The table by two processes, and once more by a dask cluster of two workers."""
    from distributed import LocalCluster

    network = zoo.load(name)
    data, _ = network.data("calibration", SENSITIVITY_SAMPLES)

    start = time.perf_counter()
    table = qcomp.sensitivity(str(network.model), calibration=data, processes=PROCESSES)
    seconds = time.perf_counter() - start
    with LocalCluster(n_workers=PROCESSES, threads_per_worker=1, dashboard_address=None) as cluster:
        start = time.perf_counter()
        distributed = qcomp.sensitivity(
            str(network.model), calibration=data, scheduler=cluster.scheduler_address
        )
        dask_seconds = time.perf_counter() - start
    return {
        "samples": SENSITIVITY_SAMPLES,
        "parts": len(table.rows),
        "seconds": seconds,
        "dask_seconds": dask_seconds,
        "dask_equal": table.json() == distributed.json(),
        "peak_mb": peak_megabytes(),
    }


COST_NETWORK = "mobilenetv2_tf"
COSTS: Mapping[str, Callable[[ModuleType, str], Row]] = {
    "calibration-50": calibration(50),
    "calibration-200": calibration(200),
    "sensitivity": sensitivity,
}
