"""Op to the function that gives its expression. A missing row is a TargetError."""

from __future__ import annotations

from qcomp.errors import TargetError
from qcomp.ir.exemptions import Exemptions, exemption
from qcomp.ir.graph import Graph
from qcomp.ir.index_bounds import index_bounds
from qcomp.ir.merged import merged
from qcomp.ir.ops import (
    Domain,
    InterpolateOctaves,
    Op,
    QAbsMax,
    QAttention,
    QEmbedding,
    QGru,
    QLstm,
    QNormalize,
    QResize2d,
    QRnn,
    QScaleDown,
    QScaleUp,
    QSoftmax,
)
from qcomp.ir.tensor import FLOATS, DType, TensorId
from qcomp.ir.text import format_op
from qcomp.quant.fixed_point import Form
from qcomp.targets.tvm.builder import ComputeOp
from qcomp.targets.tvm.ops import (
    choice,
    elementwise,
    linear,
    movement,
    pooling,
    power,
    reduction,
)

FUNCTIONS = merged(
    choice.FUNCTIONS,
    elementwise.FUNCTIONS,
    linear.FUNCTIONS,
    movement.FUNCTIONS,
    pooling.FUNCTIONS,
    power.FUNCTIONS,
    reduction.FUNCTIONS,
)

_NO_SUMS = "no function knows sums of 32 bits; expected 8 or 16"
EXEMPT: Exemptions = {
    Domain.FLOAT: "kernels compute with integers only",
    Domain.BORDER: "kernels take and give integers",
    InterpolateOctaves: _NO_SUMS,
    QNormalize: "no function computes an inverse root of sums",
    QAttention: "no function is written for it; expected products and a softmax",
    **dict.fromkeys(
        (QAbsMax, QScaleDown, QScaleUp),
        "no function knows scales that are found at run time; expected activations static",
    ),
    QResize2d: "no function knows weights that are operands",
    **dict.fromkeys((QGru, QLstm, QRnn), "no function has a loop over steps"),
}


def function_of(graph: Graph, op: Op) -> ComputeOp:
    """The row of an op; TargetError says why there is none, and what there is."""
    if reason := refusal(graph, op):
        raise TargetError(f"can't be handed to TVM:\n{format_op(graph, op)}\n  {reason}")
    return FUNCTIONS[type(op)]


def refusal(graph: Graph, op: Op) -> str | None:
    """The reason why an op has no function; None where it has."""
    if type(op) not in FUNCTIONS:
        reason = exemption(EXEMPT, type(op)) or "no function is written for it"
        return f"{reason}; there are: {', '.join(sorted(cls.mnemonic for cls in FUNCTIONS))}"
    if any(_is_sum(graph, t) for t in (*op.inputs, op.output)):
        return _NO_SUMS
    if isinstance(op, QSoftmax) and op.form is Form.TFLITE and op.bits == 16:
        return "no function of a softmax of 16 bits has the form tflite; expected quotient"
    if any(graph.type(t).dtype in FLOATS for t in (*op.inputs, op.output)):
        return EXEMPT[Domain.FLOAT]
    if isinstance(op, QEmbedding) and index_bounds(graph):
        return "nothing checks the indices that an input has before a run; expected others"
    return None


def _is_sum(graph: Graph, id: TensorId) -> bool:
    """Whether a tensor stands for real numbers in 32 bits; an index does not."""
    return graph.type(id).dtype is DType.I32 and graph.tensor(id).qparams is not None
