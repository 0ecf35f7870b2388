"""Code for calls from Python that rounds inputs, runs a network and gives real numbers.

Of a network that takes a microsecond, numpy takes several for each array: a call for every step of
a rounding. This function takes all steps. It is compiled when a network is first called with
floats, and reads the addresses of what it works on from a table, where they are written once:

    NAME_run, the real numbers of inputs and outputs, and the arguments of NAME_run
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from llvmlite import binding as llvm
from numpy.typing import NDArray

from qcomp.targets.base import Rounded

_LANES = 16
_FAR = 2.0**17  # steps: beyond any integer of 16 bits, whatever the zero point
_WHOLE = 1.5 * 2.0**23  # added and taken away it leaves a whole number, half to even

# Text, as in repeat.py. Each function takes `lanes` values at a time, and then one.
_FUNCTION = """
define internal void @{name}(ptr %real, ptr %integers) {{
entry:
  br label %wide
{loops}
done:
  ret void
}}
"""
_LOOP = """
{here}:
  %{here}.i = phi i64 [ {first}, %{before} ], [ %{here}.next, %{here}.body ]
  %{here}.more = icmp ult i64 %{here}.i, {end}
  br i1 %{here}.more, label %{here}.body, label %{after}
{here}.body:
  %{here}.real = getelementptr float, ptr %real, i64 %{here}.i
  %{here}.integers = getelementptr {integer}, ptr %integers, i64 %{here}.i
{step}
  %{here}.next = add i64 %{here}.i, {lanes}
  br label %{here}
"""
_TO_INTEGERS = """
  %{here}.x = load <{lanes} x float>, ptr %{here}.real, align 4
  %{here}.steps = fdiv <{lanes} x float> %{here}.x, {scale}
  %{here}.none = fcmp uno <{lanes} x float> %{here}.steps, zeroinitializer
  %{here}.a = select <{lanes} x i1> %{here}.none, <{lanes} x float> zeroinitializer, \
<{lanes} x float> %{here}.steps
  %{here}.below = fcmp olt <{lanes} x float> %{here}.a, {near}
  %{here}.b = select <{lanes} x i1> %{here}.below, <{lanes} x float> {near}, \
<{lanes} x float> %{here}.a
  %{here}.above = fcmp ogt <{lanes} x float> %{here}.b, {far}
  %{here}.c = select <{lanes} x i1> %{here}.above, <{lanes} x float> {far}, \
<{lanes} x float> %{here}.b
  %{here}.d = fadd <{lanes} x float> %{here}.c, {whole}
  %{here}.e = fsub <{lanes} x float> %{here}.d, {whole}
  %{here}.f = fptosi <{lanes} x float> %{here}.e to <{lanes} x i32>
  %{here}.g = add <{lanes} x i32> %{here}.f, {zero_point}
  %{here}.less = icmp slt <{lanes} x i32> %{here}.g, {least}
  %{here}.h = select <{lanes} x i1> %{here}.less, <{lanes} x i32> {least}, \
<{lanes} x i32> %{here}.g
  %{here}.greater = icmp sgt <{lanes} x i32> %{here}.h, {most}
  %{here}.k = select <{lanes} x i1> %{here}.greater, <{lanes} x i32> {most}, \
<{lanes} x i32> %{here}.h
  %{here}.q = trunc <{lanes} x i32> %{here}.k to <{lanes} x {integer}>
  store <{lanes} x {integer}> %{here}.q, ptr %{here}.integers, align {align}
"""
_TO_REAL = """
  %{here}.q = load <{lanes} x {integer}>, ptr %{here}.integers, align {align}
  %{here}.wide = sext <{lanes} x {integer}> %{here}.q to <{lanes} x i32>
  %{here}.moved = sub <{lanes} x i32> %{here}.wide, {zero_point}
  %{here}.steps = sitofp <{lanes} x i32> %{here}.moved to <{lanes} x float>
  %{here}.x = fmul <{lanes} x float> %{here}.steps, {scale}
  store <{lanes} x float> %{here}.x, ptr %{here}.real, align 4
"""


class FloatCall:
    """The function for inputs and outputs of these sizes, types and parameters."""

    def __init__(self, inputs: Sequence[Rounded], outputs: Sequence[Rounded]) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        jit = llvm.create_lljit_compiler()
        builder = llvm.JITLibraryBuilder().add_ir(_text(inputs, outputs))
        library = builder.export_symbol("qcomp_floats").link(jit, "floats")
        address = library["qcomp_floats"]
        self._function = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(address)
        self._keep = jit, library

    def bound(
        self,
        run: int,
        inputs: Sequence[Rounded],
        outputs: Sequence[Rounded],
        arena: NDArray[np.uint8],
    ) -> Callable[[], int]:
        """The function on these arrays, which runs NAME_run at the address `run`; its status.

        The caller keeps this and the arrays.
        """
        tensors = (*inputs, *outputs)
        arrays = [t.real for t in tensors] + [t.integers for t in tensors] + [arena]
        table = (ctypes.c_void_p * (1 + len(arrays)))(run, *(a.ctypes.data for a in arrays))
        return partial(self._function, ctypes.byref(table))


def _text(inputs: Sequence[Rounded], outputs: Sequence[Rounded]) -> str:
    steps = [(_TO_INTEGERS, t) for t in inputs] + [(_TO_REAL, t) for t in outputs]
    count = len(steps)
    functions = [_function(f"convert{i}", tensor, step) for i, (step, tensor) in enumerate(steps)]
    calls = [f"  call void @convert{i}(ptr %p{1 + i}, ptr %p{1 + count + i})" for i in range(count)]
    loads = [
        f"  %a{i} = getelementptr ptr, ptr %table, i64 {i}\n  %p{i} = load ptr, ptr %a{i}"
        for i in range(2 * count + 2)
    ]
    arguments = ", ".join(f"ptr %p{1 + count + i}" for i in range(count + 1))
    return "\n".join(
        (
            *functions,
            "define i32 @qcomp_floats(ptr %table) {",
            *loads,
            *calls[: len(inputs)],
            f"  %status = call i32 %p0({arguments})",
            *calls[len(inputs) :],
            "  ret i32 %status\n}",
        )
    )


def _function(name: str, tensor: Rounded, step: str) -> str:
    size = tensor.real.size
    whole = size - size % _LANES
    wide = _loop(tensor, step, _LANES, here="wide", before="entry", after="one", span=(0, whole))
    one = _loop(tensor, step, 1, here="one", before="wide", after="done", span=(whole, size))
    return _FUNCTION.format(name=name, loops=wide + one)


def _loop(
    tensor: Rounded,
    step: str,
    lanes: int,
    *,
    here: str,
    before: str,
    after: str,
    span: tuple[int, int],
) -> str:
    limits = np.iinfo(tensor.integers.dtype)
    integer = f"i{limits.bits}"
    body = step.format(
        here=here,
        lanes=lanes,
        integer=integer,
        align=limits.bits // 8,
        scale=_floats(tensor.scale, lanes),
        near=_floats(-_FAR, lanes),
        far=_floats(_FAR, lanes),
        whole=_floats(_WHOLE, lanes),
        zero_point=_integers(tensor.zero_point, lanes),
        least=_integers(int(limits.min), lanes),
        most=_integers(int(limits.max), lanes),
    )
    return _LOOP.format(
        here=here,
        before=before,
        after=after,
        first=span[0],
        end=span[1],
        integer=integer,
        lanes=lanes,
        step=body,
    )


def _floats(value: float, lanes: int) -> str:
    """A float32 in all lanes; LLVM reads the bits of the float64 of the same value."""
    (bits,) = struct.unpack("<Q", struct.pack("<d", float(np.float32(value))))
    return f"<{', '.join([f'float 0x{bits:016X}'] * lanes)}>"


def _integers(value: int, lanes: int) -> str:
    return f"<{', '.join([f'i32 {value}'] * lanes)}>"
