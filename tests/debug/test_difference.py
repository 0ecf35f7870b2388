"""Two compilations are compared, setting by setting and tensor by tensor."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qcomp
from qcomp.debug.difference import between
from qcomp.ir.ops import QConv2d
from qcomp.ir.tensor import TensorId
from qcomp.quant.qparams import QParams
from qcomp.runtime.network import CompiledNetwork

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def net(digits: Path) -> CompiledNetwork:
    return qcomp.load(digits)


def changed(net: CompiledNetwork, id: TensorId, **fields: Any) -> CompiledNetwork:
    """With other fields of one tensor."""
    graph = net.graph.clone()
    graph.update_tensor(dataclasses.replace(graph.tensor(id), **fields))
    return dataclasses.replace(net, graph=graph)


def test_a_network_is_the_same_as_itself(net: CompiledNetwork) -> None:
    found = between(net, net)
    assert found.same
    assert found.first is None
    assert found.figures == ()


def test_a_flipped_weight_is_found_with_its_place(net: CompiledNetwork) -> None:
    op = net.graph.op("expand.relu6.q")
    assert isinstance(op, QConv2d)
    weights = net.graph.data(op.weight).copy()
    weights[7, 0, 0, 5] ^= 64
    found = between(net, changed(net, op.weight, data=weights))
    (change,) = found.tensors
    assert found.first == change
    assert change.where == "expand.relu6.q"
    assert change.what == "weight, 1 of 768 numbers differ, most at [7, 0, 0, 5]:"
    assert int(change.a) ^ 64 == np.int8(int(change.b))


def test_a_wrong_zero_point_and_scale_are_found(net: CompiledNetwork) -> None:
    q = net.graph.tensor("residual.q").qparams
    assert q is not None
    other = QParams(q.scale * 2.0, q.zero_point + 1, q.qmin, q.qmax)
    found = between(net, changed(net, "residual.q", qparams=other))
    assert [(c.where, c.what) for c in found.tensors] == [
        ("residual.q", "scale"),
        ("residual.q", "zero point"),
    ]


def test_a_layer_that_is_not_equalized_is_found(net: CompiledNetwork) -> None:
    tensor = net.graph.tensor("expand.relu6.q")
    assert tensor.origin is not None
    assert tensor.origin.scale is not None
    origin = dataclasses.replace(tensor.origin, scale=None)
    (change,) = between(net, changed(net, tensor.id, origin=origin)).tensors
    assert change.where == "expand.relu6.q"
    assert change.what.startswith("equalized, most in channel ")
    assert change.b == "1"


def test_an_attribute_of_an_op_is_found(net: CompiledNetwork) -> None:
    graph = net.graph.clone()
    op = graph.op("stem.relu6.q")
    graph.replace_op(dataclasses.replace(op, x_zero_point=3))
    (change,) = between(net, dataclasses.replace(net, graph=graph)).tensors
    assert str(change) == "stem.relu6.q: x_zero_point -128 -> 3"


def test_settings_and_overrides_are_compared_field_by_field(net: CompiledNetwork) -> None:
    config = dataclasses.replace(
        net.config, per_channel=False, overrides={"residual": {"activation_bits": 16}}
    )
    found = between(net, dataclasses.replace(net, config=config))
    assert not found.same
    told = {(c.where, c.what): (c.a, c.b) for c in found.settings}
    assert told["config", "per_channel"] == ("True", "False")
    assert told["override residual", "activation_bits"] == ("nothing", "16")


def test_exit_status_and_report_are_those_of_a_diff(
    qcomp_command: Command, digits: Path, examples: Path, tmp_path: Path
) -> None:
    assert qcomp_command("diff", digits, digits).status == 0
    data, config = examples / "digits_calibration.npz", qcomp.QuantizationConfig(per_channel=False)
    other = qcomp.compile(
        examples / "digits.onnx", calibration=data, config=config, recipe="fast", name="digits"
    ).save(tmp_path / "other")
    outcome = qcomp_command("diff", digits, other)
    assert outcome.status == 1
    assert "config: per_channel True -> False" in outcome.out
    assert "first tensor that differs: %stem.relu6.q" in outcome.out
    assert "more; --all prints them" in outcome.out
    assert "more;" not in qcomp_command("diff", digits, other, "--all").out
    found = json.loads(qcomp_command("diff", digits, other, "--json").out)
    assert found["same"] is False
    assert {"where", "what", "a", "b"} == set(found["tensors"][0])
