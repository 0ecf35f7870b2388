"""The launcher of OpenCL: each failure of the driver is a status and leaves nothing behind; runs on
buffers and queues of the caller's.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from on_tvm import expect_driver, needs_tvm
from tvm_cases import CASES, together

from qcomp.ir.evaluate import evaluate
from qcomp.targets.base import Artifact
from qcomp.targets.catalog import runtime, target
from qcomp.targets.tvm.entry import STATUSES

pytestmark = needs_tvm

SUPPORT = Path(__file__).parent.parent / "support"
SANITIZE = "-fsanitize=address,undefined"


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return target("opencl").emit(together(CASES["pooling"]())[0], "net")


def built(artifact: Artifact, cc: str, folder: Path) -> Path:
    """The program of launcher_failures.c with the launcher and the fake driver, for sanitizers."""
    graph, _ = together(CASES["pooling"]())
    types = [graph.type(t) for t in (*graph.inputs.values(), *graph.outputs.values())]
    pointers = [f"({'int16_t' if t.dtype.numpy.itemsize == 2 else 'int8_t'} *)b" for t in types]
    largest = max(t.bytes for t in types)
    call = f"static int64_t b[{largest // 8 + 1}]; return net_run({', '.join(pointers)}, in);"
    text = (SUPPORT / "launcher_failures.c").read_text().replace("RUN", call)
    (folder / "main.c").write_text(text)
    for name, source in artifact.sources.items():
        (folder / name).write_text(source)
    data = next(name for name in artifact.files if name != "net.o")
    (folder / data).write_bytes(artifact.files[data])
    shared = [cc, "-g", "-O1", "-w", "-fPIC", SANITIZE, "-fno-sanitize-recover=all"]
    fake = [*shared, "-shared", str(SUPPORT / "fake_opencl.c"), "-o", "libfake.so"]
    program = [*shared, "main.c", "net.c", data, "./libfake.so", "-ldl", "-o", "check"]
    for command in (fake, program):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if "sanitize" in done.stderr or "libasan" in done.stderr:
            pytest.skip(f"no sanitizers: {done.stderr[:200]}")
        assert done.returncode == 0, done.stderr
    return folder / "check"


def test_whatever_call_fails_is_a_status_and_nothing_is_leaked(
    artifact: Artifact, cc: str, tmp_path: Path
) -> None:
    program = built(artifact, cc, tmp_path)
    environment = {**os.environ, "QCOMP_OPENCL": str(tmp_path / "libfake.so")}
    environment["ASAN_OPTIONS"] = "detect_leaks=1"
    done = subprocess.run(
        [program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    counts = dict(map(int, line.split()) for line in done.stdout.splitlines())
    named = {STATUSES[n].partition(":")[0]: count for n, count in counts.items()}
    assert list(named) == [
        "QCOMP_NO_DEVICE", "QCOMP_BAD_BUILD", "QCOMP_DEVICE_MEMORY", "QCOMP_DEVICE_FAILED"
    ]  # fmt: skip
    assert all(named.values()), named


class Driver:
    """What a program has of its own: a context, a queue and buffers."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libOpenCL.so.1")
        for name in ("clCreateContext", "clCreateCommandQueue", "clCreateBuffer"):
            getattr(self.library, name).restype = ctypes.c_void_p
        platform, self.device, code = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_int()
        self._code = ctypes.byref(code)
        assert self.library.clGetPlatformIDs(1, ctypes.byref(platform), None) == 0
        kind = ctypes.c_uint64(0xFFFFFFFF)
        assert self.library.clGetDeviceIDs(platform, kind, 1, ctypes.byref(self.device), None) == 0
        devices = ctypes.byref(self.device)
        made = self.library.clCreateContext(None, 1, devices, None, None, self._code)
        self.context = ctypes.c_void_p(made)
        self.queue = ctypes.c_void_p(
            self.library.clCreateCommandQueue(self.context, self.device, ctypes.c_uint64(0), None)
        )

    def buffer(self, array: np.ndarray[Any, Any]) -> ctypes.c_void_p:
        """A copy of the array there."""
        flags, size = ctypes.c_uint64(1 | 32), ctypes.c_size_t(array.nbytes)
        pointer = ctypes.c_void_p(array.ctypes.data)
        return ctypes.c_void_p(
            self.library.clCreateBuffer(self.context, flags, size, pointer, self._code)
        )

    def read(self, buffer: ctypes.c_void_p, like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        found, zero = np.empty_like(like), ctypes.c_size_t(0)
        size, pointer = ctypes.c_size_t(like.nbytes), ctypes.c_void_p(found.ctypes.data)
        arguments = (self.queue, buffer, 1, zero, size, pointer, 0, None, None)
        assert self.library.clEnqueueReadBuffer(*arguments) == 0
        return found

    def close(self) -> None:
        self.library.clReleaseCommandQueue(self.queue)
        self.library.clReleaseContext(self.context)


@pytest.fixture
def driver() -> Iterator[Driver]:
    expect_driver("opencl")
    made = Driver()
    yield made
    made.close()


def test_a_run_on_a_queue_and_buffers_of_the_caller(
    artifact: Artifact, driver: Driver, tmp_path: Path
) -> None:
    graph, inputs = together(CASES["pooling"]())
    expected = evaluate(graph, inputs)
    linked = runtime("opencl").link(artifact, tmp_path)
    library = ctypes.CDLL(str(tmp_path / str(linked.shared)))
    arena = artifact.memory.allocated()
    pointer = ctypes.c_void_p(arena.ctypes.data)
    assert library.net_open_in(pointer, driver.context, driver.device) == 0
    arrays = [*inputs.values(), *(np.zeros_like(v) for v in expected.values())]
    buffers = [driver.buffer(np.ascontiguousarray(a)) for a in arrays]
    handed = (ctypes.c_void_p * len(buffers))(*buffers)
    assert library.net_run_on(driver.queue, handed, pointer) == 0
    for buffer, (name, value) in zip(buffers[len(inputs) :], expected.items(), strict=True):
        assert_array_equal(driver.read(buffer, value), value, err_msg=name)
    library.net_close(pointer)
    for buffer in buffers:
        assert driver.library.clReleaseMemObject(buffer) == 0
