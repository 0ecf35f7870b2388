"""Which inputs and outputs look like states by their names and types."""

from __future__ import annotations

import pytest

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Reshape
from qcomp.ir.tensor import DType, TensorType
from qcomp.state_names import state_pairs


def graph_of(inputs: list[str], outputs: list[str]) -> Graph:
    """The network whose n-th output is the n-th input, all of one type."""
    graph = Graph("named")
    for name, output in zip(inputs, outputs, strict=True):
        id = graph.add_input(name, TensorType(DType.F32, (1, 4)))
        reshape = Reshape(inputs=(id,), output=graph.fresh_id(output), shape=(1, 4))
        graph.outputs[output] = graph.add_op(reshape)
    return graph


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("h_in", "h_out"),
        ("h0", "hn"),
        ("c0", "cn"),
        ("past_key", "key"),
        ("past_key_values.3.key", "present.3.key"),
        ("past_key_values.0.decoder.value", "present.0.decoder.value"),
        ("state_2", "new_state_2"),
        ("hidden", "hidden_out"),
        ("initial_h", "Y_h"),
        ("prevCell", "nextCell"),
        ("conv_cache_in", "conv_cache_out"),
    ],
)
def test_a_pair_is_found(name: str, output: str) -> None:
    assert state_pairs(graph_of(["x", name], ["y", output])) == {name: output}


@pytest.mark.parametrize(
    ("name", "output"),
    [("image_in", "image_out"), ("input", "output"), ("x", "y"), ("state_1", "new_state_2")],
)
def test_others_are_none(name: str, output: str) -> None:
    assert state_pairs(graph_of(["z", name], ["logits", output])) == {}
