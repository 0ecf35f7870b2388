"""Runs on several threads: the same bits, whatever the number of threads and the order of parts."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled_once import CompiledOnce
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import qcomp
from qcomp.runtime.benchmark import bench_directory
from qcomp.targets.catalog import target
from qcomp.targets.cpu.library.parallel import Splitting
from qcomp.targets.cpu.process.jit import aligned_arena
from qcomp.targets.cpu.process.threads import POOL_FILES, _library
from qcomp.targets.cpu.target import CpuTarget

Array = NDArray[Any]

EVERYTHING = Splitting(least_ns=0.0, item_ns=0.0)  # small networks are not worth sharing
TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32)
PARALLEL_FOR = ctypes.CFUNCTYPE(None, ctypes.c_void_p, TASK, ctypes.c_void_p, ctypes.c_int32)


@pytest.fixture(scope="module", params=["resnet", "mobilenet_v2", "densenet", "unet"])
def network(request: pytest.FixtureRequest, compiled_once: CompiledOnce) -> qcomp.CompiledNetwork:
    """All calls that may be shared are, in the smallest items."""
    net = qcomp.load(compiled_once(request.param))
    native = target("native")
    assert isinstance(native, CpuTarget)
    artifact = dataclasses.replace(native, splitting=EVERYTHING).emit(net.graph, net.name)
    return dataclasses.replace(net, artifact=artifact, library=None)


def random_inputs(net: qcomp.CompiledNetwork, runs: int) -> Mapping[str, Array]:
    random = np.random.default_rng(1)
    return {
        i.name: random.integers(-128, 128, (runs * i.shape[0], *i.shape[1:]), np.int8)
        for i in net.inputs
    }


def assert_same(answer: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    for name, array in expected.items():
        assert_array_equal(answer[name], array, err_msg=name)


@pytest.mark.usefixtures("cc")
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_any_number_of_threads_gives_the_bits_of_the_specification(
    network: qcomp.CompiledNetwork, threads: int
) -> None:
    x = random_inputs(network, 20)
    expected = network.specification_integer(x)
    for _ in range(3):
        assert_same(network.run_integer(x, threads=threads), expected)


def test_any_split_in_any_order_gives_the_same_bits(network: qcomp.CompiledNetwork) -> None:
    """A parallel_for that does random parts in random order, on the calling thread."""
    random = np.random.default_rng(2)
    counts: list[int] = []

    def parallel_for(user: int | None, task: Any, context: int, count: int) -> None:
        assert user == 42
        counts.append(count)
        cuts = np.flatnonzero(random.random(count - 1) < 0.5) + 1
        edges = [0, *cuts.tolist(), count]
        for i in random.permutation(len(edges) - 1):
            task(context, edges[i], edges[i + 1])

    host = PARALLEL_FOR(parallel_for)
    x = random_inputs(network, 1)
    expected = network.specification_integer(x)
    entry = network.entry()
    outputs = {o.name: np.empty(o.shape, o.dtype) for o in network.outputs}
    arena = aligned_arena(network.arena_bytes)
    entry.sharing.register(ctypes.cast(host, ctypes.c_void_p).value, 42)
    for _ in range(5):
        entry(list(x.values()), list(outputs.values()), arena)
        assert_same(outputs, expected)
    assert len(counts) >= 5
    assert min(counts) >= 2
    entry.sharing.register(None, None)
    counts.clear()
    entry(list(x.values()), list(outputs.values()), arena)
    assert_same(outputs, expected)
    assert counts == []


@pytest.mark.usefixtures("cc")
def test_callers_at_once_with_different_numbers_of_threads(
    network: qcomp.CompiledNetwork,
) -> None:
    x = random_inputs(network, 8)
    expected = network.specification_integer(x)
    with ThreadPoolExecutor(4) as callers:
        for answer in callers.map(
            lambda threads: network.run_integer(x, threads=threads), [2, 2, 1, 3, 2, 2, 1, 1] * 3
        ):
            assert_same(answer, expected)


def test_less_than_one_thread_is_refused(network: qcomp.CompiledNetwork) -> None:
    with pytest.raises(ValueError, match="0 threads; expected at least 1"):
        network.run_integer(random_inputs(network, 1), threads=0)


def test_without_a_c_compiler_one_thread_runs_and_two_are_an_error(digits: Path) -> None:
    script = (
        "import sys, numpy as np, qcomp\n"
        "net = qcomp.load(sys.argv[1])\n"
        "x = np.zeros((1, 1, 8, 8), np.float32)\n"
        "net(x)\n"
        "try: net(x, threads=2)\n"
        "except qcomp.TargetError as error: print(error)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "CC"} | {"PATH": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-c", script, digits], env=environment, capture_output=True, text=True
    )
    assert done.stdout.startswith("more than one thread needs a C compiler"), done


def test_a_compiler_that_fails_is_quoted(digits: Path) -> None:
    script = (
        "import sys, numpy as np, qcomp\n"
        "qcomp.load(sys.argv[1])(np.zeros((1, 1, 8, 8), np.float32), threads=2)\n"
    )
    environment = {**os.environ, "CC": "false"}
    done = subprocess.run(
        [sys.executable, "-c", script, digits], env=environment, capture_output=True, text=True
    )
    assert "can't compile the pool" in done.stderr


@pytest.mark.usefixtures("cc")
def test_a_folder_that_takes_no_code_is_named(monkeypatch: pytest.MonkeyPatch, cc: str) -> None:
    """As where TMPDIR is mounted with noexec."""

    def refuse(path: str) -> None:
        raise OSError(f"{path}: failed to map segment from shared object")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    with pytest.raises(qcomp.TargetError, match=r"needs a folder for code.*TMPDIR names"):
        _library.__wrapped__()


def test_the_benchmark_runs_on_threads(digits: Path) -> None:
    report = bench_directory(digits, seconds=0.05, callers=2, threads=2)
    assert (report.callers, report.threads) == (2, 2)


def test_the_sources_of_the_pool_are_saved_on_request(
    network: qcomp.CompiledNetwork, tmp_path: Path
) -> None:
    without = network.save(tmp_path / "without")
    assert not any((without / name).exists() for name in POOL_FILES)
    saved = network.save(tmp_path / "with", threads_pool=True)
    for name in POOL_FILES:
        assert name in (saved / "net.manifest.json").read_text()
        assert (saved / name).is_file()
    qcomp.load(saved)
    (saved / "qcomp_pool.c").write_text("changed")
    with pytest.raises(qcomp.ModelError, match="was changed"):
        qcomp.load(saved)
