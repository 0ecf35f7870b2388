"""The targets of TVM by name."""

from __future__ import annotations

from qcomp.targets.base import Target
from qcomp.targets.tvm.emit.device_source import OPENCL_DOT4, Language, functions, source_text
from qcomp.targets.tvm.machine import LLVM, OPENCL, C
from qcomp.targets.tvm.target import DeviceTarget, HostTarget, c_kernels, llvm_kernels

OPENCL_PRELUDE = functions("long", "static inline") + OPENCL_DOT4
OPENCL_C = Language("opencl", "opencl.c", "cl", OPENCL_PRELUDE, OPENCL, source_text)


def tvm_llvm() -> Target:
    return HostTarget("tvm-llvm", LLVM, 1.0, llvm_kernels)


def tvm_c() -> Target:
    return HostTarget("tvm-c", C, 1.0, c_kernels)


def opencl() -> Target:
    return DeviceTarget("opencl", OPENCL, 100.0, OPENCL_C)
