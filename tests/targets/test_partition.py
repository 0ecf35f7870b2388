"""Who takes which ops: parts that run one after the other give what the whole graph gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from qcomp.errors import TargetError
from qcomp.ir import DType, Graph, TensorType
from qcomp.ir.evaluate import evaluate
from qcomp.ir.ops import Add, Function, Mul, Op, Unary
from qcomp.targets.partition import Part, first_that_takes, partition


@dataclass(frozen=True)
class Toy:
    """A target that takes some op types."""

    name: str
    types: tuple[type[Op], ...]

    def supports(self, graph: Graph, op: Op) -> str | None:
        return None if isinstance(op, self.types) else f"{op.mnemonic} is not for toys"


CPU = Toy("cpu", (Op,))
ADDER = Toy("adder", (Add,))
X = np.arange(4, dtype=np.float32)


def chain(kinds: str, reads: list[int]) -> Graph:
    """An op for each letter: a (add), m (mul), u (unary); operands are results before it."""
    graph = Graph("chain")
    made = [graph.add_input("x", TensorType(DType.F32, (4,)))]
    for i, kind in enumerate(kinds):
        first, second = made[-1], made[reads[i] % len(made)]
        made.append(
            graph.add_op(
                {
                    "a": Add(inputs=(first, second), output=f"t{i}"),
                    "m": Mul(inputs=(first, second), output=f"t{i}"),
                    "u": Unary(inputs=(second,), output=f"t{i}", function=Function.TANH),
                }[kind]
            )
        )
    graph.outputs = {"y": made[-1], "middle": made[len(made) // 2]}
    return graph


def parts_of(graph: Graph, targets: list[Toy]) -> tuple[Part[Toy], ...]:
    return partition(graph, targets, first_that_takes(graph, targets))


def test_one_target_that_takes_all_takes_the_graph_in_one_part() -> None:
    graph = chain("aumam", [0, 0, 1, 2, 0])
    (part,) = parts_of(graph, [CPU])
    assert part.target is CPU
    assert [op.id for op in part.graph.ops()] == [op.id for op in graph.ops()]
    assert set(part.graph.outputs) == set(graph.outputs.values())


def test_a_target_gets_its_ops_and_the_next_one_the_rest() -> None:
    parts = parts_of(chain("uaamu", [0, 0, 1, 3, 4]), [ADDER, CPU])
    assert [(p.target.name, [op.id for op in p.graph.ops()]) for p in parts] == [
        ("cpu", ["t0"]),
        ("adder", ["t1", "t2"]),
        ("cpu", ["t3", "t4"]),
    ]


def test_ops_without_a_target_are_all_named() -> None:
    expected = r"no target takes:\n%t0 = mul\(.*\n  adder: mul is not for toys\n%t2 = unary\("
    with pytest.raises(TargetError, match=expected):
        parts_of(chain("mau", [0, 0, 0]), [ADDER])


@given(st.text("amu", min_size=1, max_size=12), st.lists(st.integers(0, 99), min_size=12))
def test_the_parts_in_their_order_compute_the_graph(kinds: str, reads: list[int]) -> None:
    graph = chain(kinds, reads)
    values = {"x": X}
    taken: list[str] = []
    for part in parts_of(graph, [ADDER, CPU]):
        adds = [isinstance(op, Add) for op in part.graph.ops()]
        assert adds == [part.target is ADDER] * len(adds)
        values |= evaluate(part.graph, {id: values[id] for id in part.graph.inputs})
        taken += [op.id for op in part.graph.ops()]
    assert sorted(taken) == sorted(op.id for op in graph.ops())
    for name, expected in evaluate(graph, {"x": X}).items():
        assert_array_equal(values[graph.outputs[name]], expected)
