"""Asking the kernel for the tile registers, in this process."""

from __future__ import annotations

import ctypes

# Linux on x86-64: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), once in a process.
SYS_ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA = 158, 0x1023, 18


def amx_permitted() -> bool:
    """Whether the kernel lets this process use the tile registers, which it has to be asked for.

    As `emit_amx_permitted` does in generated code, for a processor that is known to have them.
    """
    try:
        syscall = ctypes.CDLL(None).syscall
    except (OSError, AttributeError, TypeError):  # no C library to ask through
        return False
    syscall.restype, syscall.argtypes = ctypes.c_long, [ctypes.c_long] * 3
    return bool(syscall(SYS_ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0)
