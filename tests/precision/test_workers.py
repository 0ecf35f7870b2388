"""The same numbers from this process, from several, and from a cluster; what is interrupted."""

from __future__ import annotations

import multiprocessing.spawn
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_networks import NETWORKS

import qcomp
from qcomp.precision.parts import Kind
from qcomp.precision.problem import Problem, tasks_of
from qcomp.precision.processes import Processes
from qcomp.precision.run import keep, kept
from qcomp.precision.workers import started
from qcomp.quant.noise import Noise


def rows(**how: object) -> object:
    network = NETWORKS["mobilenet_v2"]
    table = qcomp.sensitivity(
        network.build(),
        calibration=network.samples(3),
        config=qcomp.QuantizationConfig(recipe="fast", range="minmax"),
        weight_bits=(8,),
        activation_bits=(8,),
        **how,
    )
    return table


@pytest.fixture(scope="module")
def alone() -> object:
    return rows(processes=1)


@pytest.mark.slow
def test_processes_give_the_same_numbers(alone: object) -> None:
    assert rows(processes=2) == alone


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a scheduler with two workers, each a process."""
    distributed = pytest.importorskip("distributed", reason="needs qcomp[distributed]")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as local:
        yield local.scheduler_address


@pytest.mark.slow
def test_a_cluster_gives_the_same_numbers(alone: object, cluster: str) -> None:
    assert rows(scheduler=cluster) == alone
    assert rows(scheduler=cluster) == alone  # the cluster is still there


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://x"])
def test_a_scheduler_that_does_not_answer_is_named(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed", reason="needs qcomp[distributed]")
    monkeypatch.setattr("qcomp.precision.cluster._TIMEOUT_S", 1)
    with pytest.raises(qcomp.CompileError, match=f"no dask scheduler answers at {address}"):
        rows(scheduler=address)


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "qcomp.precision.cluster", raising=False)
    with pytest.raises(qcomp.CompileError, match=r"pip install 'qcomp\[distributed\]'"):
        rows(scheduler="tcp://127.0.0.1:8786")


def test_processes_and_a_scheduler_exclude_each_other() -> None:
    with pytest.raises(qcomp.CompileError, match="expected one of them"):
        rows(processes=2, scheduler="tcp://127.0.0.1:8786")
    with pytest.raises(qcomp.CompileError, match="processes=0: expected 1 or more"):
        rows(processes=0)


def test_a_worker_that_dies_is_reported(resnet: Problem) -> None:
    with (
        pytest.raises(qcomp.CompileError, match="a worker process ended before its time"),
        started(resnet, 2, None) as workers,
    ):
        list(workers.map(_die, [0, 1]))


def _die(problem: Problem, item: int) -> int:
    os._exit(3)


# ------------------------------------------------------------------------ cache


@pytest.mark.skipif(sys.platform == "win32", reason="needs a program that ends at once")
def test_a_worker_that_dies_while_it_starts_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads nothing of a problem that is larger than any pipe's buffer."""
    ensure_running()  # with the interpreter
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", os.fsencode("/bin/true"))
    large: Any = np.zeros(1 << 20)
    processes = Processes(large, 1)
    ended = threading.Timer(60, os.kill, (os.getpid(), signal.SIGINT))  # rather than wait for ever
    ended.start()
    try:
        with pytest.raises(qcomp.CompileError, match="ended before its time"):
            list(processes.map(_die, [0]))
    finally:
        ended.cancel()
        processes.close()


def test_what_the_cache_has_is_not_computed_again(alone: object, tmp_path: Path) -> None:
    assert rows(processes=1, cache=tmp_path) == alone
    files = sorted(tmp_path.iterdir())
    assert all(file.suffix == ".npz" and file.stat().st_size < 1000 for file in files)
    files[0].unlink()
    files[1].write_text("[")  # half a file, as of another tool
    before = [file.stat().st_mtime_ns for file in files[2:]]
    assert rows(processes=1, cache=tmp_path) == alone
    assert sorted(tmp_path.iterdir()) == files
    assert [file.stat().st_mtime_ns for file in files[2:]] == before
    assert np.load(files[1])["noise"].shape[1] == 2


def test_other_data_other_bits_and_other_layers_have_other_keys(
    resnet: Problem, prepare: object
) -> None:
    from dataclasses import replace

    fewer = replace(resnet, runs=resnet.runs[:2], reference=resnet.reference[:2])
    keys = [
        problem.digest(task)
        for problem in (resnet, fewer)
        for kind in Kind
        for bits in (8, None)
        for task in tasks_of(problem, kind, bits)
    ]
    assert len(set(keys)) == len(keys)


def test_a_result_is_kept_to_the_last_bit(tmp_path: Path) -> None:
    result = [Noise(1 / 3, 1e-300), Noise(5e300, 0.0)]
    keep(tmp_path / "new", "k", result)
    assert kept(tmp_path / "new", "k", 2) == result
    assert kept(tmp_path / "new", "k", 3) is None
    assert kept(tmp_path / "new", "other", 2) is None


def test_a_damaged_file_is_as_none(tmp_path: Path) -> None:
    (tmp_path / "k.npz").write_text("{}")
    assert kept(tmp_path, "k", 1) is None
    keep(tmp_path, "k", [Noise(np.nan, 0.0)])
    assert kept(tmp_path, "k", 1) is None


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(qcomp.OutputError, match="can't write"):
        keep(tmp_path / "file", "k", [])


# ----------------------------------------------------------------- interruption

SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from small_networks import NETWORKS
import qcomp

if __name__ == "__main__":
    network = NETWORKS["mobilenet_v3"]
    config = qcomp.QuantizationConfig(recipe="fast", range="minmax")
    qcomp.sensitivity(
        network.build(), calibration=network.samples(400), config=config, processes=2,
        cache=sys.argv[1],
    )
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_whole_files_and_no_processes(
    tmp_path: Path, how: signal.Signals
) -> None:
    script, cache = tmp_path / "script.py", tmp_path / "cache"
    script.write_text(SCRIPT.format(paths=[p for p in sys.path if p.endswith("end_to_end")]))
    process = subprocess.Popen([sys.executable, script, cache], stderr=subprocess.PIPE)
    try:
        until(lambda: cache.is_dir() and any(cache.glob("*.npz")))
        workers = children(process.pid)
        assert workers
        process.send_signal(how)
        process.wait(20)
    finally:
        process.kill()
        process.communicate()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    for file in cache.glob("*.npz"):
        assert np.load(file)["noise"].size


def until(happened: object) -> None:
    for _ in range(600):
        if happened():  # type: ignore[operator]
            return
        time.sleep(0.1)
    pytest.fail("it did not happen within a minute")


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]
