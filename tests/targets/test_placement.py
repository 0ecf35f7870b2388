"""Which ops a device computes: what a minimum cut chooses, against all choices that there are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.ir.graph import Graph
from qcomp.ir.ops import MaxPool2d, Op, QMaximum, QMinimum
from qcomp.ir.tensor import DType, TensorId, TensorType
from qcomp.targets.base import Artifact, Border, Runtime, Target
from qcomp.targets.mixed.limited import Limited
from qcomp.targets.mixed.placement import op_ns, placement


@dataclass(frozen=True)
class Priced:
    """A target whose ops cost by the bytes that they move."""

    name: str
    ns_per_byte: float
    border: Border = field(default_factory=Border)
    refuses: tuple[type[Op], ...] = ()

    @property
    def runtime(self) -> Runtime:
        raise NotImplementedError

    def supports(self, graph: Graph, op: Op) -> str | None:
        return f"no {op.mnemonic}" if isinstance(op, self.refuses) else None

    def keeping(self, directory: Path) -> Target:
        raise NotImplementedError

    def emit(self, graph: Graph, name: str) -> Artifact:
        raise NotImplementedError

    def cost(self, macs: int, results: int, activation_bytes: int, bits: int) -> float:
        return self.ns_per_byte * activation_bytes

    def weight_bytes(self, shape: tuple[int, ...], groups: int, bits: int) -> int:
        raise NotImplementedError


CPU = Priced("cpu", 4.0)


def pools(kinds: str, reads: list[int]) -> Graph:
    """An op for each letter: p (pool of its operand's size), s (pool to a quarter), m (minimum),
    x (maximum); the second operands are results before it of the same size.
    """
    graph = Graph("pools")
    made = [graph.add_input("x", TensorType(DType.I8, (1, 16, 16, 2)))]
    for n, kind in enumerate(kinds):
        last = made[-1]
        size = graph.type(last).size
        if size < 8 and kind == "s":
            kind = "p"
        fits = [t for t in made if graph.type(t).size == size]
        other = fits[reads[n] % len(fits)]
        limits = {"qmin": -128, "qmax": 127}
        op: Op = {
            "p": MaxPool2d(inputs=(last,), output=f"t{n}", kernel=(1, 1)),
            "s": MaxPool2d(inputs=(last,), output=f"t{n}", kernel=(2, 2), stride=(2, 2)),
            "m": QMinimum(inputs=(last, other), output=f"t{n}", **limits),
            "x": QMaximum(inputs=(last, other), output=f"t{n}", **limits),
        }[kind]
        made.append(graph.add_op(op))
    graph.outputs = {"y": made[-1], "middle": made[len(made) // 2]}
    return graph


def taken_by(graph: Graph, device: Target, *others: Target) -> list[TensorId]:
    chosen = placement(graph, (device, *others))
    assert chosen.keys() == {op.id for op in graph.ops()}
    return [op.id for op in graph.ops() if chosen[op.id] == 0]


def time_of(graph: Graph, device: Target, on_device: Collection[TensorId]) -> float:
    """Of a choice: the ops, and each tensor that is read on the other side once."""
    total = sum(op_ns(graph, op, device if op.id in on_device else CPU) for op in graph.ops())
    for id in (*graph.inputs.values(), *(op.output for op in graph.ops())):
        here = id in on_device
        sides = {op.id in on_device for op in graph.consumers(id)}
        sides |= {False} if graph.is_output(id) else set()
        if (not here) in sides:
            total += device.border.copy_ns(graph.type(id).bytes)
    return total


@given(
    st.text("psmx", min_size=1, max_size=8),
    st.lists(st.integers(0, 99), min_size=8, max_size=8),
    st.integers(0, 2000),
)
def test_no_choice_takes_less_time(kinds: str, reads: list[int], transfer: int) -> None:
    graph = pools(kinds, reads)
    device = Priced("device", 1.0, Border(50.0, float(transfer), 2.0), refuses=(QMaximum,))
    ids = [op.id for op in graph.ops()]
    least = min(
        time_of(graph, device, chosen)
        for count in range(len(ids) + 1)
        for chosen in itertools.combinations(ids, count)
    )
    assert time_of(graph, device, taken_by(graph, device, CPU)) == pytest.approx(least)


def test_dear_borders_keep_all_ops_where_the_inputs_are() -> None:
    graph = pools("ppmp", [0] * 8)
    assert taken_by(graph, Priced("device", 1.0, Border(0.0, 1e9)), CPU) == []
    assert len(taken_by(graph, Priced("device", 1.0, Border(0.0, 1.0)), CPU)) == 4


def test_what_a_limited_target_is_asked_for_is_no_question_of_time() -> None:
    graph = pools("pmpm", [0] * 8)
    dear = Priced("device", 1e6, Border(1e6, 1e9))
    assert taken_by(graph, Limited(dear, ("q_minimum",)), CPU) == ["t1", "t3"]


def test_what_nobody_else_takes_falls_to_the_device() -> None:
    graph = pools("pmp", [0] * 8)
    poor = Priced("cpu", 1.0, refuses=(QMinimum,))
    assert taken_by(graph, Priced("device", 1e6, Border(1e6, 1e9)), poor) == ["t1"]
    assert math.isinf(op_ns(graph, graph.op("t1"), poor))


def test_the_second_device_chooses_among_what_the_first_leaves() -> None:
    graph = pools("pmx", [0] * 8)
    one = Priced("one", 0.1, refuses=(QMinimum, QMaximum))
    two = Priced("two", 0.1, refuses=(MaxPool2d, QMaximum))
    assert placement(graph, (one, two, CPU)) == {"t0": 0, "t1": 1, "t2": 2}
