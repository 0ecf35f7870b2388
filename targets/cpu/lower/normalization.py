"""Lowering of normalisation, of either width."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from qcomp.ir.ops import Op, QNormalize
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Value
from qcomp.targets.cpu.emit.groups import NormalizeSpec
from qcomp.targets.cpu.emit.normalize import emit_normalize
from qcomp.targets.cpu.emit.reduce import simplified_axes
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.kernels.axis import Axis
from qcomp.targets.cpu.lower.context import Lowering, LowerOp, broadcast_strides, element_types


def lower_normalize(lowering: Lowering, op: QNormalize) -> None:
    spec = normalize_spec(lowering, op)

    def emit(b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
        src, dst, roots, gamma, beta = pointers
        emit_normalize(b, spec, src, dst, roots, gamma, beta, Span(begin, end))

    operands = (op.x, op.output, op.roots, op.gamma, op.beta)
    arguments = [lowering.place(t).start for t in operands]
    lowering.ranged(op.mnemonic, spec, arguments, emit, spec.units)


def normalize_spec(lowering: Lowering, op: QNormalize) -> NormalizeSpec:
    x, y, gamma = (lowering.place(t).layout for t in (op.x, op.output, op.gamma))
    steps = zip(x.shape, x.strides, y.strides, broadcast_strides(gamma, x.shape), strict=True)
    axes = [Axis(*step) for step in steps]
    kept = [axis for i, axis in enumerate(axes) if i not in op.axes]
    source, result = element_types(lowering.graph, op.x, op.output)
    return NormalizeSpec(
        kept=simplified_axes(kept),
        reduced=simplified_axes([axes[i] for i in op.axes]),
        count=math.prod(x.shape[i] for i in op.axes),
        source=source,
        result=result,
        lanes=lowering.isa.lanes,
        centered=op.centered,
        x_zero_point=op.x_zero_point,
        fraction_bits=op.fraction_bits,
        mean_multiplier=op.mean_multiplier,
        mean_shift=op.mean_shift,
        added=op.added,
        least=op.least,
        precision=op.precision,
        shift=op.shift,
        qmin=op.qmin,
        qmax=op.qmax,
    )


LOWERINGS: Mapping[type[Op], LowerOp] = {
    QNormalize: lower_normalize,
}
