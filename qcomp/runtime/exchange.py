"""Two names of a file system change what they stand for in one step, where that can be done."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # <linux/fs.h>
_RENAME_SWAP = 2  # <sys/stdio.h> of macOS


def exchange(one: Path, other: Path) -> bool:
    """Whether they changed places; False leaves both as they were."""
    a, b = os.fsencode(one), os.fsencode(other)
    try:
        if sys.platform == "linux":
            function = ctypes.CDLL(None).renameat2
            done: int = function(_AT_FDCWD, a, _AT_FDCWD, b, ctypes.c_uint(_RENAME_EXCHANGE))
        elif sys.platform == "darwin":
            done = ctypes.CDLL(None).renamex_np(a, b, ctypes.c_uint(_RENAME_SWAP))
        else:
            return False
    except (AttributeError, OSError):  # an older C library
        return False
    return done == 0
