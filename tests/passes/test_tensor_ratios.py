"""The observer that notes the ratios of tensors that a pass changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcomp.ir import DType, Form, Graph, TensorType
from qcomp.ir.ops import RELU, Clamp
from qcomp.ir.tensor import Array
from qcomp.passes.base import PassManager
from qcomp.passes.events import PassLog
from qcomp.passes.ledger import Ledger
from qcomp.passes.tensor_ratios import TensorRatios


@dataclass(frozen=True)
class Move:
    """Adds `by` to what %a is said to be."""

    by: float
    name: ClassVar[str] = "move"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    def run(self, graph: Graph, log: PassLog) -> None:
        graph.name = str(float(graph.name) + self.by)
        if self.by:
            log.did("moved")


def values(graph: Graph, form: Form) -> Sequence[Mapping[str, Array]]:
    """Two samples of a tensor that moves, of one that does not, and of one of another shape."""
    by = np.float32(graph.name)
    shape = (2,) if by else (3,)
    return [{"a": np.float32([10, 0]) + by, "b": np.ones(2), "c": np.ones(shape)}] * 2


def test_only_what_a_pass_changed_is_noted_and_with_what_it_is_now() -> None:
    graph = Graph("0")
    graph.add_input("x", TensorType(DType.F32, (4,)))
    graph.add_op(Clamp(inputs=("x",), output="y", clamp=RELU))
    graph.outputs["y"] = "y"
    ledger = Ledger()
    manager = PassManager([TensorRatios(values), ledger])
    moves = [Move(1.0), Move(0.0), Move(-0.9), Move(-0.1)]
    manager.run(manager.begin(graph, Form.FLOAT), moves)
    found = [dict(entry.tensors) for entry in ledger.entries]
    assert found == [{"a": 17.0}, {}, {"a": 37.0}, {"a": 120.0}]
    assert ledger.entries[0].worst(1) == [("a", 17.0)]
