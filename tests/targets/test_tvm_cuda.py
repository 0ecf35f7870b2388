"""Kernels of CUDA: nvcc takes them, and a driver that runs them on this processor gives the bits
of the specification; its failures come as statuses.
"""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import site
from ctypes.util import find_library
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
from qcomp.targets.tvm.emit import device_source
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


@pytest.fixture
def of_source(
    cxx: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Artifact:
    """What is made where there is no nvcc, and a driver for it."""
    monkeypatch.setattr(device_source, "nvcc", lambda: None)
    made = target("cuda").emit(together(CASES["linear"]())[0], "net")
    assert "no nvcc in PATH: NVRTC has to compile the kernels where they run" in caplog.text
    monkeypatch.setenv("QCOMP_CUDA", str(shim(cxx, made.sources["net.cu"], tmp_path)))
    return made


def test_without_nvcc_a_library_has_its_source_and_needs_nvrtc(
    of_source: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "#define KERNELS_AS_SOURCE" in of_source.sources["net.c"]
    monkeypatch.setenv("QCOMP_NVRTC", "/nowhere/libnvrtc.so")
    told = r"BAD_BUILD: the kernels are source, and no NVRTC is there: /nowhere/libnvrtc\.so can't"
    with pytest.raises(TargetError, match=told):
        outputs_of(of_source, "linear")


def nvrtc() -> str | None:
    """The library, as the package nvidia-cuda-nvrtc or a toolkit has it."""
    folders = [Path(folder) / "nvidia" for folder in site.getsitepackages()]
    found = [path for folder in folders for path in folder.rglob("libnvrtc.so.*")]
    return str(found[0]) if found else find_library("nvrtc")


def test_nvrtc_compiles_the_kernels_when_a_library_is_opened(
    of_source: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = nvrtc()
    if library is None:
        pytest.skip("no NVRTC: pip install nvidia-cuda-nvrtc")
    monkeypatch.setenv("QCOMP_NVRTC", library)
    outputs_of(of_source, "linear")
    monkeypatch.setenv("SHIM_MAJOR", "1")
    with pytest.raises(
        TargetError, match=r"BAD_BUILD: the kernels: NVRTC error \d+: .*invalid value"
    ):
        outputs_of(of_source, "linear")
