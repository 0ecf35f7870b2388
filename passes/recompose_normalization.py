"""Find normalisations that an exporter wrote out in parts, and make each one op.

Layer, RMS, group, instance and L2 normalisation, in the forms of passes/lib/normal_forms.py. Step
by step, a square and its mean need 16 bits and an inverse root more; as one op only the result is
rounded. Then constants behind a normalisation go into its gamma and beta,

    (gamma * z + beta) * a + b = (gamma * a) * z + (beta * a + b)

also behind a reshape: groups of channels, [N, G, C / G * H * W] of [N, C, H, W], become axes of
their own, [N, G, C / G, H, W], in which the parameters of channels are those of an axis or two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    NO_CLAMP,
    Add,
    Binary,
    Div,
    Function,
    Mul,
    Normalize,
    Op,
    Reshape,
    Sub,
    Unary,
)
from qcomp.ir.tensor import TensorId
from qcomp.passes.events import PassLog
from qcomp.passes.lib.layout.edit import erase_unused, reshaped
from qcomp.passes.lib.layout.permutation import Shape, covered, refinement
from qcomp.passes.lib.normal_forms import NormalForm, normal_form
from qcomp.passes.lib.rooted_power import F64

_SHARE = 4  # parameters along other axes than a group's are at most this part of the values


@dataclass(frozen=True)
class RecomposeNormalization:
    """See the module. `rounds`: parts with scales of their own are rounded to them, and stay."""

    name: ClassVar[str] = "recompose-normalization"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    rounds: bool = False

    def run(self, graph: Graph, log: PassLog) -> None:
        for op in graph.ops():
            if op.id not in graph or graph.is_kept(op):
                continue
            form = normal_form(graph, op)
            if isinstance(form, NormalForm) and self.rounds and (t := _rounded(graph, op, form)):
                form = f"%{t} has a scale of its own"
            if isinstance(form, str):
                log.skipped(op.id, form)
            elif form is not None:
                _replace(graph, op, form)
                log.did(f"{op.id}: a normalisation of %{form.x} over {form.axes}", op=op.id)
        for op in graph.ops():
            if not isinstance(op, Normalize) or op.id not in graph or graph.is_kept(op):
                continue
            if self.rounds and graph.tensor(op.output).qparams is not None:
                log.skipped(op.id, "what is behind it reads values of a scale of their own")
            else:
                _absorb_readers(graph, _refine(graph, op), log)


def _rounded(graph: Graph, op: Op, form: NormalForm) -> TensorId | None:
    """A value between x and the op that has a scale of its own."""
    waiting, seen = list(op.inputs), {form.x}
    while waiting:
        t = waiting.pop()
        producer = graph.producer(t)
        if t in seen or producer is None:
            continue
        if graph.tensor(t).qparams is not None:
            return t
        seen.add(t)
        waiting += producer.inputs
    return None


def _absorb_readers(graph: Graph, op: Normalize, log: PassLog) -> None:
    """One after the other, until one clamps."""
    count, found = 0, _absorb(graph, op)
    while found is not None:
        count, op = count + 1, found
        found = _absorb(graph, op) if op.clamp.is_none else None
    if count:
        log.did(f"{op.id}: {count} ops behind it into its parameters", op=op.id)


def _replace(graph: Graph, op: Op, form: NormalForm) -> None:
    new = Normalize(
        inputs=(
            form.x,
            _parameter(graph, op.id, "gamma", form.gamma),
            _parameter(graph, op.id, "beta", form.beta),
        ),
        output=op.output,
        axes=form.axes,
        centered=form.centered,
        epsilon=form.epsilon,
        least=form.least,
        clamp=op.clamp if isinstance(op, Binary) else NO_CLAMP,
    )
    graph.replace_op(new)
    erase_unused(graph, op.inputs)


def _parameter(graph: Graph, id: TensorId, role: str, data: F64) -> TensorId:
    return graph.add_constant(f"{id}.{role}", data.astype(np.float32))


def _refine(graph: Graph, op: Normalize) -> Normalize:
    """Over axes into which those of the group and those behind the reshapes around it split."""
    before, back = graph.producer(op.x), graph.sole_consumer(op.output)
    if not isinstance(before, Reshape) or not isinstance(back, Reshape):
        return op
    grouped, shape = before.shape, back.shape
    if graph.type(before.x).shape != shape:
        return op
    split = refinement(grouped, shape)
    if split is None or split == grouped:
        return op
    parts = covered(grouped, split)
    x = reshaped(graph, before.x, split, f"{op.id}.groups")
    inputs = (x, *(_in_parts(graph, t, len(grouped), split, parts) for t in (op.gamma, op.beta)))
    axes = tuple(sorted(a for i in op.axes for a in parts[i]))
    y = graph.fresh_id(f"{op.id}.normalized")
    new = replace(op, inputs=inputs, output=y, axes=axes)
    graph.add_op(new)
    graph.replace_op(replace(back, inputs=(y,)))
    erase_unused(graph, [op.output])
    return new


def _in_parts(
    graph: Graph, id: TensorId, rank: int, split: Shape, parts: Sequence[Sequence[int]]
) -> TensorId:
    """A parameter along the parts of its axes."""
    data = graph.data(id)
    extents = (1,) * (rank - data.ndim) + data.shape
    shape = [1] * len(split)
    for extent, axes in zip(extents, parts, strict=True):
        for a in axes:
            shape[a] = split[a] if extent > 1 else 1
    return reshaped(graph, id, tuple(shape), f"{id}.groups")


def _absorb(graph: Graph, op: Normalize) -> Normalize | None:
    """With the op behind it; None where that is none, or does not fit."""
    reader, back = graph.sole_consumer(op.output), None
    shape = graph.type(op.x).shape
    if isinstance(reader, Reshape):
        back, reader = reader, graph.sole_consumer(reader.output)
        if refinement(shape, back.shape) != shape:
            return None
    change = None if reader is None else _affine(graph, reader)
    outer = shape if back is None else back.shape
    if reader is None or change is None or graph.type(reader.output).shape != outer:
        return None
    slope, offset = (_along(c, outer, shape) for c in change)
    gamma = graph.data(op.gamma) * slope
    beta = graph.data(op.beta) * slope + offset
    if not all(_fits(c, shape, op) for c in (gamma, beta)):
        return None
    y = reader.output if back is None else op.output
    new = replace(
        op,
        inputs=(
            op.x,
            _parameter(graph, reader.id, "gamma", gamma),
            _parameter(graph, reader.id, "beta", beta),
        ),
        output=y,
        clamp=reader.clamp if isinstance(reader, Binary) else NO_CLAMP,
    )
    graph.replace_op(new)
    if back is not None:
        graph.replace_op(replace(back, output=reader.output))
        erase_unused(graph, [back.output])
    else:
        erase_unused(graph, [op.output])
    return new


def _affine(graph: Graph, op: Op) -> tuple[F64, F64] | None:
    """(a, b) of an op that computes a * x + b."""
    one, zero = np.ones(1), np.zeros(1)
    if isinstance(op, Unary) and op.function is Function.AFFINE:
        return one * op.alpha, one * op.beta
    if not isinstance(op, Add | Sub | Mul | Div):
        return None
    first, second = (graph.tensor(t).data for t in op.inputs)
    constant = second if first is None else first
    if constant is None:
        return None
    c = constant.astype(np.float64)
    match op:
        case Add():
            return one, c
        case Mul():
            return c, zero
        case Sub() if first is None:
            return one, -c
        case Sub():
            return -one, c
        case Div() if first is None and c.all():
            return 1.0 / c, zero
    return None


def _along(data: F64, outer: Shape, shape: Shape) -> F64:
    """What broadcasts to `outer`, of whose axes those of `shape` are parts."""
    extents = (1,) * (len(outer) - data.ndim) + data.shape
    result = [1] * len(shape)
    for extent, axes in zip(extents, covered(outer, shape), strict=True):
        for a in axes:
            result[a] = shape[a] if extent > 1 else 1
    return data.reshape(result)


def _fits(data: F64, shape: Shape, op: Normalize) -> bool:
    """Whether parameters belong to a normalisation: those of a group, or few beside its values."""
    extents = (1,) * (len(shape) - data.ndim) + data.shape
    of_group = all(e == 1 or i in op.axes for i, e in enumerate(extents))
    return of_group or data.size * _SHARE <= math.prod(shape)
