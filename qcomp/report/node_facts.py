"""What a report shows of each input and op: text, numbers, errors, values and constants."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.tensor import Tensor, TensorId
from qcomp.ir.text import format_op
from qcomp.passes.ledger import PassEntry
from qcomp.report.advice import Advice
from qcomp.report.alone import TensorError
from qcomp.report.changed import Comparison
from qcomp.report.channels import ChannelRanges
from qcomp.report.distributions import Values
from qcomp.report.integer_counts import IntegerValues
from qcomp.report.measure import Errors
from qcomp.report.sums import Figures
from qcomp.report.times import Times
from qcomp.targets.layout import Layout

_SHOWN_NUMBERS = 8  # of a constant

Json = dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """Values on the samples: those of the float network, and the integers of the integer one."""

    floats: Mapping[TensorId, Values]
    integers: Mapping[TensorId, IntegerValues]


@dataclass(frozen=True)
class Findings:
    """What was measured and collected of a network; None or empty: not known.

    channels: by float tensor. advice: what to try next, the best first.
    """

    errors: Errors | None
    passes: Sequence[PassEntry]
    seen: Seen
    channels: Mapping[TensorId, ChannelRanges]
    comparison: Comparison | None
    advice: Sequence[Advice]
    notes: Sequence[str]
    began: float
    times: Times | None = None


def node_facts(
    graph: Graph, layout: Layout | None, room: Mapping[TensorId, float], found: Findings
) -> Iterator[Json]:
    """Inputs, then ops in their order."""
    for name, id in graph.inputs.items():
        yield {**_node(graph, id, found), "kind": "input", "title": name, "text": f"%{id}"}
    outputs = {id: name for name, id in graph.outputs.items()}
    us = {} if found.times is None else found.times.ops
    kernels = {} if layout is None else {step.op: step.kernels for step in layout.steps}
    for op in graph.ops():
        node = _node(graph, op.output, found)
        node |= {
            "kind": op.mnemonic,
            "title": _title(graph.tensor(op.output)),
            "text": format_op(graph, op),
            "constants": [_constant(graph.tensor(t)) for t in op.inputs if graph.is_constant(t)],
            "room": rounded(room.get(op.id)),
            "kernels": list(kernels.get(op.id, ())),
            "output": outputs.get(op.output),
            "us": rounded(us.get(op.output)),
        }
        yield node


def _node(graph: Graph, id: TensorId, found: Findings) -> Json:
    tensor = graph.tensor(id)
    node: Json = {"id": id, "type": str(tensor.type), "behind": _behind(tensor, found.passes)}
    if tensor.qparams is not None:
        q = tensor.qparams
        node["q"] = {
            "scale": q.scale,
            "zero_point": q.zero_point,
            "low": rounded(q.range[0]),
            "high": rounded(q.range[1]),
            "bits": q.bits,
        }
    error = None if found.errors is None else found.errors.of.get(id)
    if error is not None and found.errors is not None:
        node["error"] = _error(error, found.errors)
        values = found.seen.floats.get(error.real)
        node["values"] = None if values is None else _values(values)
        integers = found.seen.integers.get(id)
        node["integers"] = None if integers is None else _integers(integers)
        channels = found.channels.get(error.real)
        node["channels"] = None if channels is None else _channels(channels)
    return node


def _behind(tensor: Tensor, passes: Sequence[PassEntry]) -> list[list[Any]]:
    """The passes, by their places, that changed the ratio of the model's tensor, and that ratio."""
    if tensor.origin is None or (name := tensor.origin.name) is None:
        return []
    return [[n, entry.tensors[name]] for n, entry in enumerate(passes) if name in entry.tensors]


def _title(tensor: Tensor) -> str:
    """The model's name for it, or ours."""
    return (tensor.origin and tensor.origin.name) or tensor.id


def _constant(tensor: Tensor) -> Json:
    assert tensor.data is not None
    data = tensor.data
    few = data.size <= _SHOWN_NUMBERS
    return {
        "id": tensor.id,
        "type": str(tensor.type),
        "bytes": tensor.type.bytes,
        "least": rounded(float(data.min())) if data.size else None,
        "most": rounded(float(data.max())) if data.size else None,
        "numbers": [rounded(float(v)) for v in data.ravel()] if few else None,
    }


def _error(error: TensorError, found: Errors) -> Json:
    alone = error.isolated
    record: Json = {
        "cumulative": None if error.cumulative is None else _figures(error.cumulative),
        "isolated": None if alone is None else _figures(alone.figures),
        "reason": error.reason,
    }
    if alone is not None:
        noise = alone.figures.noise.noise or 1.0
        record["causes"] = {
            c.value: rounded(p / noise) for c, p in alone.causes.items() if c not in alone.outside
        }
        record["clipped"] = rounded(alone.clipped)
    share = {s.id: s for s in found.shares}.get(error.id)
    if share is not None:
        record["share"] = rounded(share.share)
        record["at_outputs"] = rounded(share.noise.db)
    return record


def _figures(figures: Figures) -> Json:
    noise = figures.noise.noise
    return {
        "db": rounded(figures.sqnr_db),
        "cosine": None if figures.cosine is None else round(figures.cosine, 7),
        "steps": rounded(figures.max_steps),
        "bias": rounded(figures.bias / noise if noise else 0.0),
    }


def _values(values: Values) -> Json:
    return {
        "low": rounded(values.low),
        "high": rounded(values.high),
        "least": rounded(values.least),
        "most": rounded(values.most),
        "counts": list(values.counts),
        "ranges": {n: [rounded(r[0]), rounded(r[1])] for n, r in values.ranges.items()},
    }


def _integers(values: IntegerValues) -> Json:
    return {
        "low": values.low,
        "width": values.width,
        "counts": list(values.counts),
        "used": list(values.used),
        "at_ends": rounded(values.at_ends),
    }


def _channels(channels: ChannelRanges) -> Json:
    return {
        "count": channels.count,
        "before": None if channels.before is None else [rounded(v, 3) for v in channels.before],
        "after": [rounded(v, 3) for v in channels.after],
    }


def edge_facts(graph: Graph, place: Mapping[TensorId, int]) -> list[list[int]]:
    def read(op: Op) -> Iterator[TensorId]:
        yield from dict.fromkeys(graph.activations(op))

    return [[place[t], place[op.output]] for op in graph.ops() for t in read(op)]


def rounded(value: float | None, digits: int = 5) -> float | None:
    """To significant digits; None for what JSON can't say."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")
