"""Leave the sigmoid or softmax behind which a network ends to the floats outside.

    ... -> y -> softmax -> out        ...  -> y

As an integer a probability is a multiple of 1/256, and a small one is 0; out of floats small ones
keep their ratios and their order. What is left out stands in `Graph.tails`. Transpositions behind
the function stay in the graph, and so do reshapes behind a sigmoid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Function, LogSoftmax, Op, Reshape, Softmax, Transpose, Unary
from qcomp.passes.events import PassLog
from qcomp.quant.tail import Tail, TailFunction


@dataclass(frozen=True)
class LeaveFloatTail:
    name: ClassVar[str] = "leave-float-tail"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    def run(self, graph: Graph, log: PassLog) -> None:
        for name in graph.outputs:
            found = None if name in graph.states.values() else _tail_of(graph, name)
            if found is None:
                log.declined(name, "no sigmoid or softmax of its own makes it")
                continue
            op, tail = found
            graph.tails[name] = tail
            graph.replace_uses(op.output, op.inputs[0])
            graph.erase(op.output)
            log.did(f"{name}: %{op.id} stands behind the output", tensor=name)


def _tail_of(graph: Graph, name: str) -> tuple[Op, Tail] | None:
    """The op whose values alone are returned under a name, and what it is of the output."""
    at = graph.outputs[name]
    if list(graph.outputs.values()).count(at) > 1 or graph.consumers(at):
        return None
    places = list(range(graph.type(at).rank))  # of the output's axes, by axis of `at`
    reshaped = False
    while isinstance(op := graph.producer(at), Transpose | Reshape):
        if isinstance(op, Transpose):
            places = [places[op.permutation.index(axis)] for axis in range(len(places))]
        else:
            reshaped, places = True, list(range(graph.type(op.inputs[0]).rank))
        at = op.inputs[0]
        if graph.sole_consumer(at) is None:
            return None
    if op is None or graph.producer(op.inputs[0]) is None:
        return None
    match op:
        case Unary(function=Function.SIGMOID):
            return op, Tail(TailFunction.SIGMOID)
        case Softmax() if not reshaped:
            log = isinstance(op, LogSoftmax)
            function = TailFunction.LOG_SOFTMAX if log else TailFunction.SOFTMAX
            return op, Tail(function, places[op.axis])
        case _:
            return None
