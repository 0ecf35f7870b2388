"""C identifiers for networks."""

from __future__ import annotations

import os
import re
from pathlib import Path

from qcomp.errors import CompileError

LONGEST_NAME = 100
# Names of the headers of C11 and of the POSIX ones that these include.
C_HEADERS = """
    alloca assert complex ctype endian errno features fenv float inttypes iso646 limits locale
    malloc math memory pthread sched setjmp signal stdalign stdarg stdatomic stdbool stddef stdint
    stdio stdlib stdnoreturn string strings tgmath threads time uchar unistd wchar wctype
"""
# Libraries of C toolchains that linkers look for by name, as -lm does for libm.a.
C_LIBRARIES = "atomic c dl gcc m pthread rt util"


def default_name(model: object) -> str:
    """The name of a model's file; "network" for what is no file."""
    return Path(model).stem if isinstance(model, str | os.PathLike) else "network"


def c_name(text: str) -> str:
    """A C identifier from any text; CompileError where nothing is left of it, or too much.

    Leading underscores are the C library's (C99 7.1.3), and so are the names of its headers: the
    directory of the network is on the search path, where NAME.h must not hide one of them.
    """
    name = re.sub(r"[^A-Za-z0-9_]", "_", text)
    if not re.search(r"[A-Za-z0-9]", name):
        raise CompileError(f"{text!r} gives no C identifier; give a name")
    if len(name) > LONGEST_NAME:
        raise CompileError(
            f"a name of {len(name)} characters: {text[:20]}...; give one of up to {LONGEST_NAME}"
        )
    if not name[0].isalpha() or name.lower() in (*C_HEADERS.split(), *C_LIBRARIES.split()):
        return f"net_{name}"
    return name
