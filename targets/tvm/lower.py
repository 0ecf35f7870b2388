"""From an integer graph to a program for one machine."""

from __future__ import annotations

from qcomp.ir.graph import Graph
from qcomp.targets.tvm.api import MISSING
from qcomp.targets.tvm.builder import Builder
from qcomp.targets.tvm.machine import Machine
from qcomp.targets.tvm.packages import require
from qcomp.targets.tvm.program import Program
from qcomp.targets.tvm.table import function_of


def lower(graph: Graph, machine: Machine, prefix: str) -> Program:
    """TargetError for an op without a function, or without TVM."""
    require(MISSING)
    builder = Builder(graph, machine, prefix)
    for op in graph.ops():
        builder.add(op, function_of(graph, op))
    return builder.program()
