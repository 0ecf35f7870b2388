"""All that a report shows, as one object of JSON: what the page draws, and what programs read."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qcomp.accuracy.record import plain
from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.tensor import Tensor, TensorId
from qcomp.ir.text import format_op
from qcomp.passes.events import EventKind
from qcomp.passes.ledger import PassEntry
from qcomp.recipes.file import fields_of
from qcomp.report.changed import Comparison
from qcomp.report.channels import ChannelRanges
from qcomp.report.distributions import Values
from qcomp.report.errors import TensorError
from qcomp.report.measure import Errors
from qcomp.report.network import Network
from qcomp.report.sums import Figures
from qcomp.targets.base import Layout
from qcomp.version import VERSION

MOST_EVENTS, MOST_LINES = 80, 160  # of a pass
_SHOWN_NUMBERS = 8  # of a constant

Json = dict[str, Any]


@dataclass(frozen=True)
class Findings:
    """What was measured and collected of a network; None or empty: not known.

    values, channels: by float tensor. advice: what to try next, the best first.
    """

    errors: Errors | None
    passes: Sequence[PassEntry]
    values: Mapping[TensorId, Values]
    channels: Mapping[TensorId, ChannelRanges]
    comparison: Comparison | None
    advice: Sequence[Json]
    notes: Sequence[str]
    began: float


def facts(net: Network, found: Findings) -> Json:
    """Of a network."""
    layout, told = _layout(net)
    room = _head_room(net.ledger)
    nodes = list(_nodes(net.graph, layout, room, found))
    memory = net.artifact.memory
    return {
        "name": net.name,
        "qcomp": VERSION,
        "target": net.target,
        "isa": list(net.isa),
        "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "seconds": round(time.perf_counter() - found.began, 2),
        "inputs": [_interface(i) for i in net.inputs],
        "outputs": [_interface(o) for o in net.outputs],
        "sizes": {
            "weights": memory.weights,
            "arena": memory.arena,
            "live": memory.live,
            "code": sum(map(len, net.artifact.files.values())),
        },
        "accuracy": plain(net.accuracy),
        "errors": _of_errors(found.errors),
        "comparison": _comparison(found.comparison),
        "advice": list(found.advice),
        "notes": [*net.notes, *found.notes, *told],
        "config": {"recipe": net.config.recipe, **fields_of(net.config)},
        "nodes": nodes,
        "edges": _edges(net.graph, {node["id"]: i for i, node in enumerate(nodes)}),
        "passes": [_pass(entry) for entry in found.passes],
        "memory": None if layout is None else _memory(layout, len(net.graph.ops())),
    }


def _layout(net: Network) -> tuple[Layout | None, tuple[str, ...]]:
    try:
        return net.runtime.layout(net.artifact, net.graph), ()
    except TargetError as error:
        return None, (f"kernels and memory plan are not known: {error}",)


def _head_room(ledger: Sequence[PassEntry]) -> Mapping[TensorId, float]:
    """Bits that the largest sum of an op leaves, as certified."""
    events = [e for entry in ledger for e in entry.events if entry.name == "certify-accumulators"]
    return {e.op: e.numbers["bits"] for e in events if e.op is not None and "bits" in e.numbers}


def _interface(info: Any) -> Json:
    return {
        "name": info.name,
        "shape": list(info.shape),
        "dtype": info.dtype,
        "scale": info.scale,
        "zero_point": info.zero_point,
    }


# ------------------------------------------------------------------------- nodes


def _nodes(
    graph: Graph, layout: Layout | None, room: Mapping[TensorId, float], found: Findings
) -> Iterator[Json]:
    """Inputs, then ops in their order."""
    for name, id in graph.inputs.items():
        yield {**_node(graph, id, found), "kind": "input", "title": name, "text": f"%{id}"}
    outputs = {id: name for name, id in graph.outputs.items()}
    for op in graph.ops():
        node = _node(graph, op.output, found)
        node |= {
            "kind": op.mnemonic,
            "title": _title(graph.tensor(op.output)),
            "text": format_op(graph, op),
            "constants": [_constant(graph.tensor(t)) for t in op.inputs if graph.is_constant(t)],
            "room": _rounded(room.get(op.id)),
            "kernels": [] if layout is None else list(layout.kernels.get(op.id, ())),
            "output": outputs.get(op.output),
        }
        yield node


def _node(graph: Graph, id: TensorId, found: Findings) -> Json:
    tensor = graph.tensor(id)
    node: Json = {"id": id, "type": str(tensor.type)}
    if tensor.qparams is not None:
        q = tensor.qparams
        node["q"] = {
            "scale": q.scale,
            "zero_point": q.zero_point,
            "low": _rounded(q.range[0]),
            "high": _rounded(q.range[1]),
            "bits": q.bits,
        }
    error = None if found.errors is None else found.errors.of.get(id)
    if error is not None and found.errors is not None:
        node["error"] = _error(error, found.errors)
        values = found.values.get(error.real)
        node["values"] = None if values is None else _values(values)
        channels = found.channels.get(error.real)
        node["channels"] = None if channels is None else _channels(channels)
    return node


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
        "least": _rounded(float(data.min())) if data.size else None,
        "most": _rounded(float(data.max())) if data.size else None,
        "numbers": [_rounded(float(v)) for v in data.ravel()] if few else None,
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
            c.value: _rounded(p / noise) for c, p in alone.causes.items() if c not in alone.outside
        }
        record["clipped"] = _rounded(alone.clipped)
    share = {s.id: s for s in found.shares}.get(error.id)
    if share is not None:
        record["share"] = _rounded(share.share)
        record["at_outputs"] = _rounded(share.noise.db)
    return record


def _figures(figures: Figures) -> Json:
    noise = figures.noise.noise
    return {
        "db": _rounded(figures.sqnr_db),
        "cosine": None if figures.cosine is None else round(figures.cosine, 7),
        "steps": _rounded(figures.max_steps),
        "bias": _rounded(figures.bias / noise if noise else 0.0),
    }


def _values(values: Values) -> Json:
    return {
        "low": _rounded(values.low),
        "high": _rounded(values.high),
        "least": _rounded(values.least),
        "most": _rounded(values.most),
        "counts": list(values.counts),
        "ranges": {n: [_rounded(r[0]), _rounded(r[1])] for n, r in values.ranges.items()},
    }


def _channels(channels: ChannelRanges) -> Json:
    return {
        "count": channels.count,
        "before": None if channels.before is None else [_rounded(v, 3) for v in channels.before],
        "after": [_rounded(v, 3) for v in channels.after],
    }


def _edges(graph: Graph, place: Mapping[TensorId, int]) -> list[list[int]]:
    def read(op: Op) -> Iterator[TensorId]:
        yield from dict.fromkeys(graph.activations(op))

    return [[place[t], place[op.output]] for op in graph.ops() for t in read(op)]


# ------------------------------------------------------------------------ others


def _of_errors(errors: Errors | None) -> Json | None:
    if errors is None:
        return None
    return {
        "samples": errors.samples,
        "shared_samples": errors.shared_samples,
        "db": _rounded(errors.output_noise.db),
        "explained_db": _rounded(errors.explained.db),
        "ranking": [s.id for s in errors.shares],
        "notes": list(errors.notes),
    }


def _comparison(found: Comparison | None) -> Json | None:
    if found is None:
        return None
    return {
        **found.evaluation.json(),
        "changed": [dataclasses.asdict(sample) for sample in found.changed],
        "pairs": [list(pair) for pair in found.pairs[:MOST_EVENTS]],
        "count": found.count,
        "right_to_wrong": found.right_to_wrong,
        "wrong_to_right": found.wrong_to_right,
    }


def _pass(entry: PassEntry) -> Json:
    return {
        "name": entry.name,
        "form": entry.gives.value,
        "ops": entry.ops,
        "bytes": entry.constant_bytes,
        "did": entry.count(EventKind.DID),
        "left": entry.count(EventKind.SKIPPED),
        "moved": _rounded(entry.number("difference")),
        "db": _rounded(entry.number("sqnr_db")),
        "exact": entry.number("exact") is not None,
        "seconds": _rounded(entry.seconds),
        "peak": entry.peak_bytes,
        "events": [[e.kind.value, e.text, e.line] for e in entry.events[:MOST_EVENTS]],
        "more_events": max(len(entry.events) - MOST_EVENTS, 0),
        "diff": list(entry.diff[:MOST_LINES]),
        "more_diff": max(len(entry.diff) - MOST_LINES, 0),
        "lines": len(entry.diff),
    }


def _memory(layout: Layout, ops: int) -> Json:
    return {
        "isa": layout.isa,
        "arena": layout.arena,
        "steps": ops + 1,
        "held": [[h.name, h.offset, h.bytes, h.first, h.last] for h in layout.held],
    }


def _rounded(value: float | None, digits: int = 5) -> float | None:
    """To significant digits; None for what JSON can't say."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")
