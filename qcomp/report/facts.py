"""All that a report shows, as one object of JSON: what the page draws, and what programs read."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from qcomp.ir.tensor import TensorId
from qcomp.passes.events import EventKind
from qcomp.passes.ledger import PassEntry
from qcomp.recipes.file import fields_of
from qcomp.report.accuracy_section import accuracy_facts
from qcomp.report.advice import Advice
from qcomp.report.changed import Comparison
from qcomp.report.measure import Errors
from qcomp.report.network import Network
from qcomp.report.node_facts import Findings, Json, edge_facts, node_facts, rounded
from qcomp.report.times import Times
from qcomp.targets.layout import Layout
from qcomp.version import VERSION

MOST_EVENTS, MOST_LINES, MOST_TENSORS = 80, 160, 8  # of a pass


def facts(net: Network, found: Findings) -> Json:
    """Of a network."""
    layout, told = _layout(net)
    room = _head_room(net.ledger)
    nodes = list(node_facts(net.graph, layout, room, found))
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
        "accuracy": accuracy_facts(net),
        "times": _times(found.times),
        "errors": _of_errors(found.errors),
        "comparison": _comparison(found.comparison),
        "advice": [_advice(one) for one in found.advice],
        "notes": [*net.notes, *found.notes, *told],
        "config": {"recipe": net.config.recipe, **fields_of(net.config)},
        "nodes": nodes,
        "edges": edge_facts(net.graph, {node["id"]: i for i, node in enumerate(nodes)}),
        "passes": [_pass(entry) for entry in found.passes],
        "memory": None if layout is None else _memory(layout, len(net.graph.ops())),
    }


def _advice(one: Advice) -> Json:
    return {"text": one.text, "id": one.id, "gain": one.gain, "gain_db": rounded(one.gain_db)}


def _layout(net: Network) -> tuple[Layout | None, tuple[str, ...]]:
    """Of the most able instruction set."""
    layouts = net.runtime.layouts(net.artifact, net.graph)
    if not layouts:
        return None, (f"the target {net.target} tells neither kernels nor memory plan",)
    return layouts[-1], ()


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


def _times(times: Times | None) -> Json | None:
    if times is None:
        return None
    return {"isa": times.isa, "run": rounded(times.run), "sum": rounded(times.sum)}


def _of_errors(errors: Errors | None) -> Json | None:
    if errors is None:
        return None
    return {
        "samples": errors.samples,
        "shared_samples": errors.shared_samples,
        "db": rounded(errors.output_noise.db),
        "explained_db": rounded(errors.explained.db),
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
        "moved": rounded(entry.number("difference")),
        "db": rounded(entry.number("sqnr_db")),
        "exact": entry.number("exact") is not None,
        "seconds": rounded(entry.seconds),
        "peak": entry.peak_bytes,
        "moved_tensors": len(entry.tensors),
        "tensors": list(map(list, entry.worst(MOST_TENSORS))),
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
