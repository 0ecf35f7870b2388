"""Op to lowering function, by the width of the elements. A missing row is a TargetError.

An op all of whose tensors have 8 bits (or are no activations) takes its row of LOWERINGS; one that
reads or makes a sum of 32 bits that of I32_LOWERINGS, and else one that reads or makes an i16 that
of I16_LOWERINGS. Ops that move elements of any width stand in all. Each module ends with its own
rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qcomp.errors import TargetError
from qcomp.ir import ops
from qcomp.ir.exemptions import Exemptions, exemption
from qcomp.ir.graph import Graph
from qcomp.ir.merged import merged
from qcomp.ir.tensor import FLOATS
from qcomp.ir.text import format_op
from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu.lower import (
    attention,
    choice,
    concat,
    elementwise,
    embedding,
    linear,
    matmul,
    movement,
    normalization,
    pooling,
    power,
    recurrent,
    reduction,
    resize,
    softmax,
)
from qcomp.targets.cpu.lower.context import LowerOp
from qcomp.targets.cpu.lower.i16 import dynamic as i16_dynamic
from qcomp.targets.cpu.lower.i16 import elementwise as i16_elementwise
from qcomp.targets.cpu.lower.i16 import linear as i16_linear
from qcomp.targets.cpu.lower.i16 import matmul as i16_matmul
from qcomp.targets.cpu.lower.i16 import reduction as i16_reduction
from qcomp.targets.cpu.lower.i16 import softmax as i16_softmax
from qcomp.targets.cpu.lower.i16.types import is_i16
from qcomp.targets.cpu.lower.i32 import elementwise as i32_elementwise
from qcomp.targets.cpu.lower.i32 import reduction as i32_reduction
from qcomp.targets.cpu.lower.i32.types import is_i32

LOWERINGS: Mapping[type[ops.Op], LowerOp] = merged(
    attention.LOWERINGS,
    embedding.LOWERINGS,
    choice.LOWERINGS,
    concat.LOWERINGS,
    elementwise.LOWERINGS,
    linear.LOWERINGS,
    matmul.LOWERINGS,
    movement.LOWERINGS,
    normalization.LOWERINGS,
    pooling.LOWERINGS,
    power.LOWERINGS,
    reduction.LOWERINGS,
    resize.LOWERINGS,
    softmax.LOWERINGS,
    i16_elementwise.LOWERINGS,
)

I16_LOWERINGS: Mapping[type[ops.Op], LowerOp] = merged(
    attention.LOWERINGS,
    embedding.LOWERINGS,
    choice.LOWERINGS,
    concat.I16_LOWERINGS,
    movement.I16_LOWERINGS,
    normalization.LOWERINGS,
    pooling.I16_LOWERINGS,
    power.LOWERINGS,
    recurrent.LOWERINGS,
    reduction.I16_LOWERINGS,
    resize.I16_LOWERINGS,
    i16_elementwise.I16_LOWERINGS,
    i16_linear.I16_LOWERINGS,
    i16_matmul.I16_LOWERINGS,
    i16_reduction.I16_LOWERINGS,
    i16_dynamic.I16_LOWERINGS,
    i16_softmax.I16_LOWERINGS,
)

I32_LOWERINGS: Mapping[type[ops.Op], LowerOp] = merged(
    concat.I16_LOWERINGS,
    movement.I16_LOWERINGS,
    i16_linear.I32_LOWERINGS,
    i32_elementwise.I32_LOWERINGS,
    i32_reduction.I32_LOWERINGS,
)

_NO_KERNELS: Exemptions = {
    ops.Domain.FLOAT: "the libraries compute with integers only",
    ops.Domain.BORDER: "the libraries take and give integers",
}
EXEMPT: Exemptions = {
    **_NO_KERNELS,
    ops.Interpolate: "its operand has 16 bits",
    ops.InterpolateOctaves: "its operand has 32 bits",
    **dict.fromkeys(
        (ops.QAbsMax, ops.QScaleDown, ops.QScaleUp), "what its scale is found of has 16 bits"
    ),
    ops.QGru: "sums of gates have 16 bits",
    ops.QLstm: "sums of gates have 16 bits",
    ops.QRnn: "sums of gates have 16 bits",
}

I16_EXEMPT: Exemptions = {
    **_NO_KERNELS,
    ops.QAddRescaled: "no kernel of 16 bits rounds the operands of a sum one by one",
    ops.QPReluRescaled: "its operand has 8 bits",
    ops.PairTable: "its operands have 8 bits",
    ops.QAdd: "adds i8 in 16-bit lanes; of i16 QAddWide is made",
    ops.InterpolateOctaves: "its operand has 32 bits",
}

_NO_SUMS = "reads and makes no sums of 32 bits"
I32_EXEMPT: Exemptions = {
    **dict.fromkeys((cls for cls in I16_LOWERINGS if cls not in I32_LOWERINGS), _NO_SUMS),
    **dict.fromkeys((cls for cls in LOWERINGS if cls not in I32_LOWERINGS), _NO_SUMS),
    **_NO_KERNELS,
}


# The arithmetics that kernels have, of the ops that know several.
_INTEGER_FORMS = (Form.NARROW, Form.WIDE, Form.TFLITE, Form.ONNX)
FORMS: Mapping[type[ops.Op], tuple[Form, ...]] = {
    ops.QAddRescaled: (Form.TFLITE,),
    ops.QAveragePool2d: (*_INTEGER_FORMS, Form.QUOTIENT),
    ops.QConv2d: (*_INTEGER_FORMS, Form.AWAY),
    ops.QDense: (*_INTEGER_FORMS, Form.AWAY),
    ops.QMatMul: _INTEGER_FORMS,
    ops.QMul: _INTEGER_FORMS,
    ops.QPReluRescaled: (Form.TFLITE,),
    ops.QReduceSum: _INTEGER_FORMS,
    ops.QRescale: (Form.WIDE,),
    ops.QSoftmax: (Form.QUOTIENT, Form.TFLITE),
}
I16_FORMS: Mapping[type[ops.Op], tuple[Form, ...]] = {
    **dict.fromkeys((cls for cls in FORMS if cls in I16_LOWERINGS), (Form.WIDE,)),
    ops.QSoftmax: (Form.QUOTIENT,),
}


I32_FORMS: Mapping[type[ops.Op], tuple[Form, ...]] = dict.fromkeys(
    (cls for cls in FORMS if cls in I32_LOWERINGS), (Form.WIDE,)
)


@dataclass(frozen=True)
class Table:
    """The lowerings of one width of elements."""

    bits: int
    rows: Mapping[type[ops.Op], LowerOp]
    exempt: Exemptions
    forms: Mapping[type[ops.Op], tuple[Form, ...]]

    def row(self, graph: Graph, op: ops.Op) -> LowerOp:
        """The function that lowers an op; TargetError without one."""
        if reason := self.refusal(op):
            raise TargetError(f"can't lower:\n{format_op(graph, op)}\n  {reason}")
        return self.rows[type(op)]

    def refusal(self, op: ops.Op) -> str | None:
        """The reason why an op has no row, or its row not this form, and what there is."""
        if type(op) in self.rows:
            return self._form_refusal(op) if isinstance(op, ops.Formed) else None
        reason = exemption(self.exempt, type(op)) or "no kernel is written for it"
        names = ", ".join(sorted(cls.mnemonic for cls in self.rows))
        return f"{reason}; with {self.bits} bits it lowers: {names}"

    def _form_refusal(self, op: ops.Formed) -> str | None:
        known = self.forms[type(op)]
        if op.form in known:
            return None
        names = ", ".join(form.value for form in known)
        return f"no kernel of {op.mnemonic} has the form {op.form.value}; expected {names}"


NARROW = Table(8, LOWERINGS, EXEMPT, FORMS)
WIDE = Table(16, I16_LOWERINGS, I16_EXEMPT, I16_FORMS)
SUMS = Table(32, I32_LOWERINGS, I32_EXEMPT, I32_FORMS)


def table_of(graph: Graph, op: ops.Op) -> Table:
    """By the types of the op's operands and result."""
    if is_i32(graph, op):
        return SUMS
    return WIDE if is_i16(graph, op) else NARROW


def lowering_of(graph: Graph, op: ops.Op) -> LowerOp:
    return table_of(graph, op).row(graph, op)


def refusals(graph: Graph) -> list[str]:
    """The line of each op that can't be lowered as it stands, with the reason; of a graph that is
    not of integers only, of the ops that touch floats.
    """
    why = refusal if graph.is_integer_only else _float_refusal
    found = ((op, why(graph, op)) for op in graph.ops())
    return [f"{format_op(graph, op)}\n  {reason}" for op, reason in found if reason]


def refusal(graph: Graph, op: ops.Op) -> str | None:
    """The reason why an op can't be lowered as it stands; None where it can."""
    zero_point = isinstance(op, ops.QWeighted) and op.weight_zero_point is not None
    if zero_point and table_of(graph, op) is not NARROW:
        return "no kernels of 16 or 32 bits know weights with a zero point; expected symmetric ones"
    return _float_refusal(graph, op) or table_of(graph, op).refusal(op)


def _float_refusal(graph: Graph, op: ops.Op) -> str | None:
    floats = any(graph.type(t).dtype in FLOATS for t in (*op.inputs, op.output))
    return _NO_KERNELS[ops.Domain.FLOAT] if floats else None
