"""Make an attention that an exporter wrote out in parts one op again.

    softmax(scale * q k' + masks) v
Found from its softmax: before it a product of two activations, behind it one with v. Between them
the scores may be scaled, on either side of a mask or on q and k, masked by sums and choices, and
bounded from below; all that in any order. Heads of k and v that are repeated for several heads of q
are read once. Constant masks become one, and none where they say that a query sees the keys up to
its own position.

The op has its heads inside, as projections leave them, so what moves them there and back is added
around it; canonicalize-layout cancels that with what the model had.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import BroadcastTo, MatMul, Reshape, Softmax, Transpose
from qcomp.ir.ops.attention import Attention
from qcomp.ir.tensor import TensorId
from qcomp.passes.events import PassLog
from qcomp.passes.lib.attention_masks import combined
from qcomp.passes.lib.attention_scores import Scores, scores_of, unscaled
from qcomp.passes.lib.layout.edit import erase_unused, reshaped, transposed
from qcomp.quant.attention import MOST_DEPTH, MOST_KEYS

_INSIDE = (0, 2, 1, 3)  # heads behind positions, and back
_FROM_TRANSPOSED = (0, 3, 1, 2)  # [B, G, D, T] to [B, T, G, D]


@dataclass(frozen=True)
class RecomposeAttention:
    """See the module."""

    name: ClassVar[str] = "recompose-attention"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    def run(self, graph: Graph, log: PassLog) -> None:
        for op in graph.ops():
            if type(op) is Softmax and op.output in graph and not graph.is_kept(op):
                _recompose(graph, op, log)


def _recompose(graph: Graph, softmax: Softmax, log: PassLog) -> None:
    weighted = graph.sole_consumer(softmax.output)
    if not isinstance(weighted, MatMul) or weighted.a != softmax.output or weighted.b == weighted.a:
        return
    found = scores_of(graph, softmax.x)
    if found is None or graph.is_kept(weighted):
        return
    if reason := _unfit(graph, softmax, found, weighted):
        log.skipped(weighted.id, reason)
        return
    _replace(graph, found, weighted)
    log.did(f"{weighted.id}: attention, scale {found.scale:.6g}", op=weighted.id)


def _unfit(graph: Graph, softmax: Softmax, found: Scores, weighted: MatMul) -> str | None:
    """Why these ops stay as they are."""
    shapes = [graph.type(t).shape for t in (found.q, found.k, weighted.b)]
    q, k, v = shapes
    if softmax.axis != len(q) - 1:
        return f"its softmax is along axis {softmax.axis}; expected the last"
    if not 2 <= len(q) <= 4 or len({len(s) for s in shapes}) > 1:
        return f"operands of shapes {q}, {k}, {v}; expected one rank of 2 to 4"
    if any(graph.is_constant(t) for t in (found.q, found.k, weighted.b)):
        return "an operand is constant; expected activations"
    if k[-1] > MOST_KEYS or q[-1] > MOST_DEPTH:
        return f"{k[-1]} keys of {q[-1]}; expected at most {MOST_KEYS} of {MOST_DEPTH}"
    (qb, qh), (kb, kg), (vb, vg) = (_leading(s) for s in shapes)
    if not (qb == kb == vb and qh % kg == 0 and qh % vg == 0):
        return f"operands of shapes {q}, {k}, {v}; expected one batch, and heads of q for all"
    if not found.scale > 0:
        return f"scores are scaled by {found.scale:.6g}; expected a number above 0"
    return None


def _leading(shape: tuple[int, ...]) -> tuple[int, int]:
    """Batch and heads; of one leading axis heads."""
    batch, heads = (1, 1, *shape[:-2])[-2:]
    return batch, heads


def _replace(graph: Graph, found: Scores, weighted: MatMul) -> None:
    out = weighted.output
    q, scale_q = unscaled(graph, found.q)
    k, scale_k = unscaled(graph, found.k)
    heads = _leading(graph.type(q).shape)[1]
    v = weighted.b
    if len(graph.type(k).shape) == 4:
        k, v = _common(graph, k, v, heads)
    q_in = _moved(graph, q, _INSIDE, f"{out}.q")
    k_in = _moved(graph, k, _FROM_TRANSPOSED, f"{out}.k")
    v_in = _moved(graph, v, _INSIDE, f"{out}.v")
    k_in, v_in = _repeated(graph, k_in, v_in)
    (batch, queries, _, _), keys = graph.type(q_in).shape, graph.type(k_in).shape[1]
    masks = combined(graph, found.terms, (batch, heads, queries, keys), f"{out}.mask")
    result = Attention(
        inputs=(q_in, k_in, v_in, *masks.operands),
        output=graph.fresh_id(f"{out}.attention"),
        scale=found.scale * scale_q * scale_k,
        ahead=masks.ahead,
        masks=masks.kinds,
        unattended=masks.unattended,
    )
    _put(graph, result, out)
    erase_unused(graph, weighted.inputs)


def _common(graph: Graph, k: TensorId, v: TensorId, heads: int) -> tuple[TensorId, TensorId]:
    """Without repeated heads, if both have as many then."""
    once_k, once_v = (_once(graph, t) for t in (k, v))
    groups = graph.type(once_k).shape[1]
    return (once_k, once_v) if groups == graph.type(once_v).shape[1] else (k, v)


def _once(graph: Graph, id: TensorId) -> TensorId:
    """[B, G, m, n] where neighbouring heads of [B, H, m, n] are copies of one; else the same."""
    joined = graph.producer(id)
    if not isinstance(joined, Reshape):
        return id
    spread = graph.producer(joined.x)
    if not isinstance(spread, BroadcastTo) or len(spread.shape) != 5:
        return id
    few, many = graph.type(spread.x).shape, spread.shape
    b, g, r, m, n = many
    if graph.type(id).shape != (b, g * r, m, n) or few != (b, g, 1, m, n):
        return id
    return reshaped(graph, spread.x, (b, g, m, n), f"{id}.once")


def _moved(graph: Graph, id: TensorId, permutation: tuple[int, ...], name: str) -> TensorId:
    """[B, positions, heads, elements]."""
    shape = graph.type(id).shape
    whole = reshaped(graph, id, (1,) * (4 - len(shape)) + shape, f"{name}.whole")
    return transposed(graph, whole, permutation, name)


def _repeated(graph: Graph, k: TensorId, v: TensorId) -> tuple[TensorId, TensorId]:
    """With as many heads in k as in v: those of the one that has one only are copied."""
    groups = [graph.type(t).shape[2] for t in (k, v)]
    if groups[0] == groups[1]:
        return k, v
    most = max(groups)
    copied = []
    for t in (k, v):
        b, n, _, d = graph.type(t).shape
        if graph.type(t).shape[2] != most:
            t = graph.add_op(
                BroadcastTo(inputs=(t,), output=graph.fresh_id(f"{t}.heads"), shape=(b, n, most, d))
            )
        copied.append(t)
    return copied[0], copied[1]


def _put(graph: Graph, op: Attention, out: TensorId) -> None:
    """The op, and what moves its heads back, in the place of the product `out`."""
    shape = graph.type(out).shape
    inside = graph.add_op(op, graph.tensor(out).origin)
    if len(shape) == 4:
        graph.replace_op(Transpose(inputs=(inside,), output=out, permutation=_INSIDE))
        return
    back = transposed(graph, inside, _INSIDE, f"{out}.heads")
    graph.replace_op(Reshape(inputs=(back,), output=out, shape=shape))
