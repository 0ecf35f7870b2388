"""Cancel the transposes that importing a channels-first network leaves around every spatial op.

The importer emits Transpose(0, 2, 3, 1), an NHWC op, Transpose(0, 3, 1, 2); all else keeps the
network's own axis order. This pass lets whole regions of other ops work on the NHWC values:

1. local rewrites compose, cancel and merge moves, and find channel shuffles (layout/moves.py);
2. around each transpose a region of ops that can work in either order grows (layout/region.py,
   layout/rules.py), a minimum cut chooses those to rewrite (layout/cut.py), and they are rewritten
   (layout/twist.py);
3. and again, as long as the weighted number of transposed elements falls, which ends it.

What remains stands at graph inputs or outputs, or is logged with the ops that hold it there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Transpose
from qcomp.ir.tensor import TensorId
from qcomp.passes.events import PassLog
from qcomp.passes.lib.layout.cut import best_choice, transpose_cost
from qcomp.passes.lib.layout.moves import finish_moves, simplify_moves
from qcomp.passes.lib.layout.permutation import Permutation, inverse
from qcomp.passes.lib.layout.region import grow
from qcomp.passes.lib.layout.twist import twist_members


@dataclass(frozen=True)
class CanonicalizeLayout:
    """Leave transposes only at the border of the graph, or where an op needs them."""

    name: ClassVar[str] = "canonicalize-layout"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    def run(self, graph: Graph, log: PassLog) -> None:
        simplify_moves(graph, log)
        unfinished = True
        while unfinished:
            while _improve(graph, log):
                pass
            unfinished = finish_moves(graph, log)
        for op in _transposes(graph):
            log.skipped(op.id, _why_it_stays(graph, op))


def _improve(graph: Graph, log: PassLog) -> bool:
    """Try one round over all regions; undo it unless fewer elements are transposed afterwards."""
    saved, cost = graph.clone(), _cost(graph)
    trial = PassLog()
    if not _twist_regions(graph, trial):
        return False
    simplify_moves(graph, trial)
    if _cost(graph) >= cost:
        graph.restore(saved)
        return False
    log.events += trial.events
    return True


def _transposes(graph: Graph) -> list[Transpose]:
    return [op for op in graph.ops() if isinstance(op, Transpose)]


def _cost(graph: Graph) -> int:
    return sum(transpose_cost(graph, op) for op in _transposes(graph))


def _seeds(op: Transpose) -> tuple[tuple[TensorId, Permutation], ...]:
    """The two values that a transpose could make superfluous: its result and its operand."""
    return (op.output, op.permutation), (op.x, inverse(op.permutation))


def _twist_regions(graph: Graph, log: PassLog) -> bool:
    """Improve the region on either side of each transpose once; whether any was improved."""
    improved = False
    explored: set[tuple[TensorId, Permutation]] = set()
    for op in _transposes(graph):
        for value, twist in _seeds(op):
            if op.output not in graph or graph.op(op.output) != op or (value, twist) in explored:
                continue
            region = grow(graph, value, twist)
            explored.update(region.twists.items())
            chosen = best_choice(graph, region)
            if chosen:
                twist_members(graph, region, chosen)
                log.did(
                    f"{len(chosen)} ops around {op.id} in {twist}: {', '.join(chosen)}",
                    op=op.id,
                    ops=len(chosen),
                )
                improved = True
    return improved


def _why_it_stays(graph: Graph, op: Transpose) -> str:
    if op.x in graph.inputs.values():
        return "moves a graph input"
    if graph.is_output(op.output) and not graph.consumers(op.output):
        return "moves a graph output"
    reasons: dict[str, None] = {}
    for value, twist in _seeds(op):
        for id, reason in grow(graph, value, twist).blocked.items():
            reasons[f"%{id}: {reason}"] = None
    listed = list(reasons)
    more = f"; and {len(listed) - 4} more" if len(listed) > 4 else ""
    return f"fewest elements are moved here ({'; '.join(listed[:4])}{more})"
