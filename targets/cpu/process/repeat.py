"""A compiled loop around an entry point, so that a benchmark pays for Python once per batch."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import binding as llvm
from numpy.typing import NDArray

# Text, as llvmlite's builder can't call through an opaque pointer. `count` is at least 1.
_LOOP = """
define i32 @qcomp_repeat(ptr %run, i64 %count, {parameters}) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %following, %loop ]
  %status = call i32 %run({parameters})
  %following = add i64 %i, 1
  %more = icmp ult i64 %following, %count
  br i1 %more, label %loop, label %done
done:
  ret i32 %status
}}
"""


def repeated(address: int, arrays: Sequence[NDArray[Any]], owner: object) -> Callable[[int], None]:
    """A function of a count that calls NAME_run at `address` that often; `owner` keeps its code.

    Python's lock is released meanwhile, so several threads may run at once.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    jit = llvm.create_lljit_compiler()
    loop = _LOOP.format(parameters=", ".join(f"ptr %p{i}" for i in range(len(arrays))))
    library = llvm.JITLibraryBuilder().add_ir(loop).export_symbol("qcomp_repeat").link(jit, "loop")
    argument_types = [ctypes.c_void_p, ctypes.c_int64, *[ctypes.c_void_p] * len(arrays)]
    function = ctypes.CFUNCTYPE(ctypes.c_int32, *argument_types)(library["qcomp_repeat"])
    pointers = [a.ctypes.data for a in arrays]
    owners = (jit, library, owner, arrays)

    def call(count: int, _owners: object = owners) -> None:
        function(address, count, *pointers)

    return call
