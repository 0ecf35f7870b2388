"""Libraries for devices: from a model to a directory and back, in Python and in C."""

from __future__ import annotations

import ctypes
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from on_tvm import expect_driver, needs_tvm

import qcomp
from qcomp.errors import TargetError
from qcomp.runtime.benchmark import bench_directory
from qcomp.runtime.verification import check_program_of, verify_directory
from qcomp.targets.mixed.plan import plan_of
from qcomp.targets.tvm import tune
from qcomp.targets.tvm.lower import lower
from qcomp.targets.tvm.machine import OPENCL_CPU
from qcomp.targets.tvm.tune import read
from tests.targets.test_mixed import compiled, model

pytestmark = needs_tvm

OK, BAD_ARENA, NOT_OPEN, NO_DRIVER, NO_DEVICE, ALREADY = 0, 1, 3, 4, 5, 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small network for OpenCL."""
    expect_driver("opencl")
    net, x = compiled("opencl")
    q = net.quantized(x)
    for ours, expected in zip(net.run_integer(q), net.specification_integer(q), strict=True):
        assert_array_equal(ours, expected)
    return net.save(tmp_path_factory.mktemp("opencl") / "net")


@pytest.fixture
def library(folder: Path) -> ctypes.CDLL:
    made = ctypes.CDLL(str(folder / "libnet.so"))
    made.net_message.restype = ctypes.c_char_p
    return made


class Arena:
    """Memory for a state, and the functions of the library on it."""

    def __init__(self, library: ctypes.CDLL, net: qcomp.CompiledNetwork) -> None:
        self.memory = net.artifact.memory.allocated()
        self.memory[:] = 0xA5
        self.pointer = ctypes.c_void_p(self.memory.ctypes.data)
        self._library, self._net = library, net

    def open(self, device: bytes | None = None) -> int:
        status: int = self._library.net_open(self.pointer, ctypes.c_char_p(device))
        return status

    def close(self) -> None:
        self._library.net_close(self.pointer)

    def message(self) -> str:
        told: bytes = self._library.net_message(self.pointer)
        return told.decode()

    def run(self, x: Any) -> tuple[int, list[Any]]:
        outputs = [np.zeros(o.shape, o.dtype) for o in self._net.outputs]
        arrays = [ctypes.c_void_p(a.ctypes.data) for a in (x, *outputs)]
        return self._library.net_run(*arrays, self.pointer), outputs


@pytest.fixture
def arenas(library: ctypes.CDLL, folder: Path) -> Iterator[tuple[Arena, Arena, Any, Any]]:
    """Two arenas, an input and what is right for it."""
    net = qcomp.load(folder)
    x = np.random.default_rng(0).integers(-128, 128, net.inputs[0].shape).astype(np.int8)
    both = Arena(library, net), Arena(library, net)
    yield *both, x, net.specification_integer(x)
    for arena in both:
        arena.close()


def test_a_directory_is_verified_and_timed(folder: Path) -> None:
    report = verify_directory(folder, 2)
    assert (report.differing_bits, report.isas) == (0, ("opencl",))
    assert bench_directory(folder, seconds=0.1, callers=2).runs > 0
    manifest = json.loads((folder / "net.manifest.json").read_text())
    assert manifest["sources"] == ["net.h", "net.c", "net.cl"]
    assert (manifest["system_libraries"], manifest["run"]) == (["dl"], "net_run")


def test_states_come_as_statuses(arenas: tuple[Arena, Arena, Any, Any]) -> None:
    one, _, x, _ = arenas
    assert one.run(x)[0] == NOT_OPEN
    assert one.open(b"no such device") == NO_DEVICE
    assert one.message() == "no OpenCL device called no such device"
    assert one.run(x)[0] == NOT_OPEN
    assert one.open() == OK
    assert one.open() == ALREADY
    one.close()
    assert one.run(x)[0] == NOT_OPEN
    one.pointer = ctypes.c_void_p(one.memory.ctypes.data + 1)
    assert (one.open(), one.run(x)[0]) == (BAD_ARENA, BAD_ARENA)


def test_two_contexts_are_open_at_once(arenas: tuple[Arena, Arena, Any, Any]) -> None:
    one, other, x, expected = arenas
    assert (one.open(), other.open()) == (OK, OK)
    for arena in (one, other, one):
        status, outputs = arena.run(x)
        assert status == OK
        for ours, right in zip(outputs, expected, strict=True):
            assert_array_equal(ours, right)
    one.close()
    assert other.run(x)[0] == OK


def test_a_missing_driver_is_a_status_and_an_error(
    arenas: tuple[Arena, Arena, Any, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QCOMP_OPENCL", "/nowhere/libOpenCL.so")
    one, _, x, _ = arenas
    assert one.open() == NO_DRIVER
    assert one.message() == "no OpenCL library: /nowhere/libOpenCL.so can't be opened"
    net = qcomp.load(folder)
    assert net.lacking == "no OpenCL driver: /nowhere/libOpenCL.so can't be opened"
    with pytest.raises(TargetError, match="net can't run on this machine: no OpenCL driver"):
        net.run_integer(x)


def test_a_program_in_c_checks_the_library(folder: Path, cc: str, tmp_path: Path) -> None:
    (tmp_path / "check.c").write_text(check_program_of(folder, 1))
    command = [cc, "-O1", "-std=c99", "-Wall", "-Wextra", "-Werror", "check.c", f"-I{folder}"]
    command += [str(folder / "libnet.a"), "-ldl", "-lm", "-o", "check"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "0 differing bits" in done.stdout


def test_times_by_layers_are_refused(folder: Path) -> None:
    with pytest.raises(TargetError, match="net is for opencl; times by layers are the CPU's"):
        qcomp.load(folder).profile()


def test_a_device_takes_some_ops_and_the_processor_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expect_driver("opencl")
    with caplog.at_level("INFO", "qcomp.targets.mixed.target"):
        net, x = compiled("opencl[q_conv2d,max_pool2d]+native")
    told = [record.getMessage() for record in caplog.records]
    assert "net_part1: 2 q_conv2d, 1 max_pool2d on opencl[q_conv2d,max_pool2d]; " in told[1]
    q = net.quantized(x)
    net.save(tmp_path / "net")
    for each in (net, qcomp.load(tmp_path / "net")):
        for ours, right in zip(each.run_integer(q), net.specification_integer(q), strict=True):
            assert_array_equal(ours, right)
    with pytest.raises(TargetError, match="no op is called conv; there are: "):
        compiled("opencl[conv]+native")


def test_a_network_that_is_not_worth_a_copy_stays_on_the_processor() -> None:
    net, _ = compiled("opencl+native")
    assert [step.target for step in plan_of(net.artifact).steps] == ["native"]
    assert net.notes[-1].endswith("1 reshape on native; 192 bytes in, 520 out")


def test_tuning_finds_tiles_that_give_the_same_code_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "_WORTH", 1e9)  # something is chosen, whatever the times are
    expect_driver("opencl:cpu")
    samples = {"calibration": [np.zeros((1, 3, 8, 8), np.float32)], "recipe": "fast", "name": "net"}
    net = qcomp.compile(model(), "opencl:cpu", tune=3, **samples)
    q = np.random.default_rng(0).integers(-128, 128, net.inputs[0].shape).astype(np.int8)
    for ours, right in zip(net.run_integer(q), net.specification_integer(q), strict=True):
        assert_array_equal(ours, right)
    folder = net.save(tmp_path / "net")
    tiles = folder / "net.tiles.json"
    usual = qcomp.compile(model(), "opencl:cpu", **samples)
    again = qcomp.compile(model(), "opencl:cpu", tiles=tiles, **samples)
    assert again.artifact.sources == net.artifact.sources
    assert "net.tiles.json" not in usual.artifact.sources
    keys = {launch.kernel.key for launch in lower(net.graph, OPENCL_CPU, "k").launches}
    assert read(tiles.read_text()).keys() == keys
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"a": {"channels": 4}}')
    with pytest.raises(TargetError, match=r"no file of tiles: .*; expected a NAME\.tiles\.json"):
        qcomp.compile(model(), "opencl:cpu", tiles=wrong, **samples)
    with pytest.raises(TargetError, match="tvm-llvm has nothing to tune; expected a device"):
        qcomp.compile(model(), "tvm-llvm", tune=1, **samples)
