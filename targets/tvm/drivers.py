"""Whether this machine has the driver and a device for a library, found out without the library."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping

_ALL_DEVICES = 0xFFFFFFFF
_MOST = 16


def opencl_lacks() -> str | None:
    """None where a platform of OpenCL has a device."""
    asked = os.environ.get("QCOMP_OPENCL", "")
    names = [asked] if asked else ["libOpenCL.so.1", "libOpenCL.so"]
    library = _first(names)
    if library is None:
        return f"no OpenCL driver: {names[0]} can't be opened"
    platforms, count = (ctypes.c_void_p * _MOST)(), ctypes.c_uint32()
    if library.clGetPlatformIDs(_MOST, platforms, ctypes.byref(count)):
        return "no OpenCL platform"
    for platform in platforms[: min(count.value, _MOST)]:
        found = ctypes.c_uint32()
        status = library.clGetDeviceIDs(
            ctypes.c_void_p(platform), ctypes.c_uint64(_ALL_DEVICES), 0, None, ctypes.byref(found)
        )
        if status == 0 and found.value:
            return None
    return "no OpenCL device"


def cuda_lacks() -> str | None:
    """None where the driver of CUDA has a device."""
    name = os.environ.get("QCOMP_CUDA") or "libcuda.so.1"
    library, count = _first([name]), ctypes.c_int()
    if library is None:
        return f"no CUDA driver: {name} can't be opened"
    if library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "no CUDA device"
    return None


def _first(names: list[str]) -> ctypes.CDLL | None:
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


DRIVERS: Mapping[str, Callable[[], str | None]] = {"opencl": opencl_lacks, "cuda": cuda_lacks}
