"""Kernels of CUDA: nvcc takes them, and a driver that runs them on this processor gives the bits
of the specification; its failures come as statuses.
"""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cuda_shim import shim
from numpy.testing import assert_array_equal
from on_tvm import needs_tvm
from tvm_cases import CASES, together

from qcomp.errors import TargetError
from qcomp.ir.evaluate import evaluate
from qcomp.targets.base import Artifact
from qcomp.targets.catalog import runtime, target
from qcomp.targets.tvm import languages
from qcomp.targets.tvm.emit.pieces import words_in_c
from qcomp.targets.tvm.target import DeviceTarget

pytestmark = needs_tvm


def without_nvcc() -> DeviceTarget:
    """The image is of no use to a driver that has the kernels already."""
    made = languages.cuda("sm_80")
    assert isinstance(made, DeviceTarget)

    def embedded(text: str) -> str:
        return "\n".join(words_in_c("kernel_image", b"", "static "))

    return replace(made, language=replace(made.language, embedded=embedded))


@pytest.fixture
def cxx() -> str:
    found = shutil.which("c++") or shutil.which("g++")
    if found is None:
        pytest.skip("no C++ compiler")
    return found


def outputs_of(artifact: Artifact, kind: str) -> None:
    """Runs the artifact on the driver that QCOMP_CUDA names."""
    graph, inputs = together(CASES[kind]())
    entry = runtime("cuda").load(artifact, graph, None)
    expected = evaluate(graph, inputs)
    results = {n: np.full(v.shape, 0x5A, v.dtype) for n, v in expected.items()}
    entry(list(inputs.values()), list(results.values()), artifact.memory.allocated())
    for name, value in results.items():
        assert_array_equal(value, expected[name], err_msg=f"{name}\n{graph}")


@pytest.mark.parametrize("kind", CASES)
def test_kernels_give_the_bits_of_the_specification(
    kind: str, cxx: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = without_nvcc().emit(together(CASES[kind]())[0], "net")
    driver = shim(cxx, artifact.sources["net.cu"], tmp_path)
    monkeypatch.setenv("QCOMP_CUDA", str(driver))
    outputs_of(artifact, kind)


def test_failures_of_the_driver_are_statuses(
    cxx: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = without_nvcc().emit(together(CASES["reduction"]())[0], "net")
    driver = shim(cxx, artifact.sources["net.cu"], tmp_path)
    monkeypatch.setenv("QCOMP_CUDA", str(driver))
    for name, value, told in (
        ("SHIM_BAD_BUILD", "1", "QCOMP_BAD_BUILD: the kernels: CUDA error 200"),
        ("SHIM_MOST_BYTES", "1", "QCOMP_DEVICE_MEMORY: a buffer: CUDA error 2"),
        ("SHIM_MOST_BYTES", "4096", "QCOMP_DEVICE_MEMORY: a buffer: CUDA error 2"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(TargetError, match=told):
                outputs_of(artifact, "reduction")
    outputs_of(artifact, "reduction")
    gc.collect()
    assert ctypes.CDLL(str(driver)).shim_allocations() == 0  # each failure gave all back
    monkeypatch.setenv("SHIM_NO_DEVICE", "1")
    assert runtime("cuda").lacking(artifact.requires) == "no CUDA device"
    monkeypatch.setenv("QCOMP_CUDA", "/nowhere/libcuda.so")
    with pytest.raises(TargetError, match=r"no CUDA driver: /nowhere/libcuda\.so can't be opened"):
        outputs_of(artifact, "reduction")


def test_a_run_on_a_stream_and_memory_of_the_caller(
    cxx: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = without_nvcc().emit(together(CASES["pooling"]())[0], "net")
    monkeypatch.setenv("QCOMP_CUDA", str(shim(cxx, artifact.sources["net.cu"], tmp_path)))
    driver = ctypes.CDLL(os.environ["QCOMP_CUDA"])
    graph, inputs = together(CASES["pooling"]())
    expected = evaluate(graph, inputs)
    linked = runtime("cuda").link(artifact, tmp_path)
    library = ctypes.CDLL(str(tmp_path / str(linked.shared)))
    arena = artifact.memory.allocated()
    pointer, context = ctypes.c_void_p(arena.ctypes.data), ctypes.c_void_p()
    assert driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
    assert library.net_open_in(pointer, context, None) == 0
    arrays = [*inputs.values(), *(np.zeros_like(v) for v in expected.values())]
    buffers = [ctypes.c_uint64() for _ in arrays]  # of this processor's memory
    for buffer, array in zip(buffers, arrays, strict=True):
        assert driver.cuMemAlloc_v2(ctypes.byref(buffer), ctypes.c_size_t(array.nbytes)) == 0
        ctypes.memmove(buffer.value or 0, array.tobytes(), array.nbytes)
    handed = (ctypes.c_void_p * len(buffers))(*(buffer.value for buffer in buffers))
    assert library.net_run_on(None, handed, pointer) == 0
    for buffer, (name, value) in zip(buffers[len(inputs) :], expected.items(), strict=True):
        found = np.frombuffer(ctypes.string_at(buffer.value or 0, value.nbytes), value.dtype)
        assert_array_equal(found.reshape(value.shape), value, err_msg=name)
    library.net_close(pointer)
    for buffer in buffers:
        assert driver.cuMemFree_v2(buffer) == 0
    assert driver.shim_allocations() == 0


@pytest.mark.parametrize("name", ["cuda:sm_80", "cuda:sm_90"])
def test_every_kernel_compiles(name: str) -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc")
    for kind in ("linear", "movement"):
        assert target(name).emit(together(CASES[kind]())[0], "net").files


def test_without_nvcc_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(TargetError, match="targets of CUDA need nvcc, which is not in PATH"):
        target("cuda").emit(together(CASES["power"]())[0], "net")
