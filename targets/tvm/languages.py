"""The targets of TVM by name."""

from __future__ import annotations

from dataclasses import replace

from qcomp.targets.base import Border, Target
from qcomp.targets.tvm.emit.device_source import (
    Language,
    functions,
    image_of,
    source_of,
    source_text,
)
from qcomp.targets.tvm.machine import CUDA, LLVM, OPENCL, OPENCL_CPU, OPENCL_DOT4, C
from qcomp.targets.tvm.target import DeviceTarget, HostTarget, c_kernels, llvm_kernels

OPENCL_PRELUDE = functions("long", "static inline") + source_of("dot4.cl")
OPENCL_C = Language("opencl", "opencl.c", "cl", OPENCL_PRELUDE, OPENCL, source_text)


# min and max are of one type, and int64_t may be long.
CUDA_PRELUDE = functions("long long", "static __device__ __forceinline__") + source_of("dot4.cu")
CUDA_PRELUDE += "#define int64_t long long\n"
CUDA_ARCHITECTURES = ("sm_80", "sm_90")

# Guesses, as the rates below are: a device behind a bus, and a driver in this process.
FAR = Border(launch_ns=5_000.0, transfer_ns=20_000.0, bytes_per_ns=10.0)
NEAR = Border(launch_ns=20_000.0, transfer_ns=10_000.0, bytes_per_ns=5.0)


def tvm_llvm() -> Target:
    return HostTarget("tvm-llvm", LLVM, 1.0, Border(), llvm_kernels)


def tvm_c() -> Target:
    return HostTarget("tvm-c", C, 1.0, Border(), c_kernels)


def opencl() -> Target:
    return DeviceTarget("opencl", OPENCL, 500.0, FAR, OPENCL_C)


def opencl_dot4() -> Target:
    """For devices that multiply and add four i8 at once."""
    language = replace(OPENCL_C, machine=OPENCL_DOT4)
    return DeviceTarget("opencl:dot4", OPENCL_DOT4, 2000.0, FAR, language)


def opencl_cpu() -> Target:
    """For processors, whose threads compute with vectors."""
    prelude = functions("long", "static inline") + source_of("vectors.cl")
    language = replace(OPENCL_C, machine=OPENCL_CPU, prelude=prelude)
    return DeviceTarget("opencl:cpu", OPENCL_CPU, 30.0, NEAR, language)


def cuda(*architectures: str) -> Target:
    """One architecture, or a library of all of CUDA_ARCHITECTURES."""
    chosen = architectures or CUDA_ARCHITECTURES
    name = ":".join(("cuda", *architectures))
    language = Language("cuda", "cuda.c", "cu", CUDA_PRELUDE, CUDA, image_of(chosen))
    return DeviceTarget(name, CUDA, 5000.0, FAR, language)
