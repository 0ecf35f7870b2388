"""One tensor's life in words: from the model's node through its rounding to the kernel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from qcomp.config import QuantizationConfig, matches
from qcomp.debug.names import tensor_named
from qcomp.ir.graph import Graph
from qcomp.ir.ops import FakeQuantConstant, Op, Quantize
from qcomp.ir.tensor import Array, Mark, Origin, Tensor, TensorId
from qcomp.ir.text import format_op
from qcomp.passes.lib.integer_rules import SUMS
from qcomp.quant.fixed_point import Requantize
from qcomp.quant.qparams import QParams
from qcomp.runtime.load import load
from qcomp.runtime.network import CompiledNetwork
from qcomp.targets.layout import Step

MARKS: Mapping[Mark, str] = {
    Mark.UNSIGNED: "128 was taken from its bytes, which have a sign here",
    Mark.IMPORTED: "the importer computed it from the model's constant of that name",
    Mark.RESHAPED: "it was reshaped",
    Mark.REORDERED: "its elements were put in another order",
    Mark.FOLDED: "products and sums per channel, as of a batch normalisation, were folded in",
    Mark.CLAMPED: "the clamp behind it, such as a ReLU, was fused in",
    Mark.EQUALIZED: "cross-layer equalization multiplied its channels",
    Mark.CUT: "some of its channels were cut out",
    Mark.SILENCED: "its dead channels became constants",
    Mark.ABSORBED: "a high bias was moved to the next layer",
    Mark.ROUNDED: "it was rounded so that mean and gain stay",
    Mark.CORRECTED: "the mean error of rounding was taken from it",
    Mark.FITTED: "its rounding was fitted to what the layer should give",
}
Paragraph = tuple[str, list[str]]


def explain(directory: Path, name: str) -> list[Paragraph]:
    """A heading and sentences for each stage that a tensor of a saved network went through.

    `name` is an id of the integer graph, of the QDQ graph, or a name in the model.
    """
    net = load(directory)
    return life(net, tensor_named(net, name))


def life(net: CompiledNetwork, id: TensorId) -> list[Paragraph]:
    """The same of a tensor of the integer graph."""
    graph = net.graph
    tensor, op = graph.tensor(id), graph.producer(id)
    told: list[Paragraph] = [("tensor", [_what(graph, tensor, op)])]
    told.append(("model", list(_origin(tensor.origin))))
    if tensor.data is not None:
        told.append(("constant", list(_constant(net, tensor, tensor.data))))
    else:
        told.append(("rounding", list(_rounding(net, tensor, op))))
    if op is not None:
        told.append(("integers", list(_computed(graph, op))))
    if tensor.data is None:
        told.append(("code", list(_code(net, id))))
    told.append(("readers", list(_readers(graph, id))))
    return [(heading, sentences) for heading, sentences in told if sentences]


def _what(graph: Graph, tensor: Tensor, op: Op | None) -> str:
    names = [name for name, t in graph.outputs.items() if t == tensor.id]
    output = f", the output {', '.join(names)}" if names else ""
    if op is not None:
        return f"%{tensor.id}: {tensor.type}, the result of a {op.mnemonic}{output}."
    if tensor.is_constant:
        return f"%{tensor.id}: {tensor.type}, a constant{output}."
    (name,) = (name for name, t in graph.inputs.items() if t == tensor.id)
    return f"%{tensor.id}: {tensor.type}, the input {name}{output}."


def _origin(origin: Origin | None) -> Iterator[str]:
    if origin is None or origin.name is None:
        yield "The model has no such tensor: qcomp made it."
    else:
        yield f"It stands for the model's {origin.name}."
    if origin is None:
        return
    if origin.permutation is not None:
        axes = ", ".join(map(str, origin.permutation))
        yield f"Its axes are the model's in the order ({axes})."
    if origin.scale is not None:
        low, high = float(origin.scale.min()), float(origin.scale.max())
        yield (
            f"Its channels are the model's times factors of {low:.4g} to {high:.4g}, "
            "which equalization chose."
        )
    for mark in origin.rewritten_by:
        yield f"{MARKS[mark][0].upper()}{MARKS[mark][1:]}."


def _rounding(net: CompiledNetwork, tensor: Tensor, op: Op | None) -> Iterator[str]:
    q = tensor.qparams
    if q is None:
        yield "Its integers are counts or indices, not rounded numbers."
        return
    yield _grid(q)
    source = None if net.qdq is None else _float_of(net.qdq, tensor.id)
    if net.qdq is not None and source is not None:
        if (found := net.qdq.tensor(source).range) is not None:
            how = _estimator(net.config, source, op)
            yield f"Its range is {found[0]:.6g} to {found[1]:.6g}, {how}."
        if (producer := net.qdq.producer(source)) is not None:
            yield f"In floats: {_line(net.qdq, producer)}"


def _grid(q: QParams) -> str:
    low, high = ((limit - q.zero_point) * q.scale for limit in (q.qmin, q.qmax))
    return (
        f"It holds {low:.6g} to {high:.6g} in steps of {q.scale:.6g}; 0 is the integer "
        f"{q.zero_point}."
    )


def _estimator(config: QuantizationConfig, id: TensorId, op: Op | None) -> str:
    """Who chose a range: an override, or the estimator of all."""
    mnemonic = None if op is None else op.mnemonic.removeprefix("q_")
    keys = [k for k, f in config.overrides.items() if "range" in f and matches(k, id, mnemonic)]
    chosen = config.at(id, mnemonic).range
    how = f"estimated by {chosen}" if isinstance(chosen, str) else "given"
    return f"{how}{f' (override {keys[-1]!r})' if keys else ''}"


def _float_of(qdq: Graph, id: TensorId) -> TensorId | None:
    """The float that is rounded to a tensor of the integer graph."""
    op = qdq.producer(id) if id in qdq else None
    return op.x if isinstance(op, Quantize) else None


def _constant(net: CompiledNetwork, tensor: Tensor, data: Array) -> Iterator[str]:
    if not data.size:
        return
    zeros = np.count_nonzero(data == 0) / data.size
    yield (
        f"It has {data.size:,} numbers from {data.min()} to {data.max()}, {zeros:.1%} of them 0, "
        f"{len(np.unique(data)):,} different ones."
    )
    if net.qdq is None:
        return
    grid = _weight_grid(net.qdq, tensor.id)
    if grid is not None:
        steps = net.qdq.data(grid.inputs[1])
        yield (
            f"They are steps of {float(steps.min()):.4g} to {float(steps.max()):.4g} "
            f"({steps.size} of them), {grid.bits} bits."
        )


def _weight_grid(qdq: Graph, id: TensorId) -> FakeQuantConstant | None:
    """Integer constants are called as their floats, with the type behind a full stop."""
    source = id.rpartition(".")[0]
    if source not in qdq:
        return None
    found = (op for op in qdq.consumers(source) if isinstance(op, FakeQuantConstant))
    return next(found, None)


def _computed(graph: Graph, op: Op) -> Iterator[str]:
    yield _line(graph, op)
    multiplier, shift = getattr(op, "multiplier", None), getattr(op, "shift", None)
    requantize = getattr(op, "requantize", None)
    if isinstance(requantize, Requantize) and multiplier is not None and shift is not None:
        yield (
            f"Sums are requantized in the form {requantize.form.value}: multipliers "
            f"{_interval(graph, multiplier)}, shifts {_interval(graph, shift)}, zero point "
            f"{requantize.zero_point}, limits {requantize.qmin} and {requantize.qmax}."
        )
    if type(op) in SUMS:
        bits = SUMS[type(op)](graph, op).head_room()
        yield f"No sum can overflow: {bits:.1f} bits of head-room at least."


def _line(graph: Graph, op: Op) -> str:
    """Its line of the text format, without what is said of its result elsewhere."""
    return format_op(graph, op).partition(" : ")[0]


def _interval(graph: Graph, value: int | TensorId) -> str:
    """Of a number, or of a constant."""
    if isinstance(value, int):
        return str(value)
    data = graph.data(value)
    low, high = int(data.min()), int(data.max())
    return str(low) if low == high else f"{low} to {high}"


def _code(net: CompiledNetwork, id: TensorId) -> Iterator[str]:
    layouts = net.runtime.layouts(net.artifact, net.graph)
    if not layouts:
        yield f"The target {net.target} does not tell of its kernels by op."
    told: dict[tuple[str, ...], list[str]] = {}
    for layout in layouts:
        by_op = {step.op: step for step in layout.steps}
        within = next((s for s in layout.steps if s.result == id and s.op != id), None)
        sentences = tuple(_step(by_op.get(id), within))
        told.setdefault(sentences, []).append(layout.isa)
    for sentences, isas in told.items():
        yield f"On {', '.join(isas)}: {' '.join(sentences)}"


def _step(own: Step | None, within: Step | None) -> Iterator[str]:
    """What computes a tensor, and where it lies."""
    step = within or own
    if step is None:
        yield "it lies in no memory, as the ops that read it do without."
        return
    if within is not None:
        yield f"computed in the kernel of %{within.op} ({', '.join(within.kernels)})."
    elif step.result != step.op:
        kernels = ", ".join(step.kernels)
        yield f"computed by {kernels}, which goes on to %{step.result} and stores only that."
        return
    elif step.kernels:
        yield f"computed by {', '.join(step.kernels)}."
    elif step.arena:
        yield "no kernel: it is where it was, under another shape."
    if not step.arena:
        yield "it lies in the caller's memory."
        return
    where = " and ".join(f"{begin:,} to {end:,}" for begin, end in step.arena)
    parts = ", a part after the other" if len(step.arena) > 1 else ""
    yield f"It lies at bytes {where} of the arena{parts}, from op {step.live[0]} to {step.live[1]}."


def _readers(graph: Graph, id: TensorId) -> Iterator[str]:
    readers = [f"%{op.output} ({op.mnemonic})" for op in graph.consumers(id)]
    if readers:
        yield f"It is read by {', '.join(readers)}."
    elif not graph.is_output(id):
        yield "Nothing reads it."
