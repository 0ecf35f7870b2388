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
from qcomp.debug.layout_difference import kernels, memory
from qcomp.ir.ops import QConv2d
from qcomp.ir.tensor import TensorId
from qcomp.quant.qparams import QParams
from qcomp.runtime.network import CompiledNetwork
from qcomp.targets.layout import Held, Layout, Step

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
    weights.flags.writeable = False
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


def test_kernels_and_bytes_of_ops_that_both_have_are_compared() -> None:
    steps = (
        Step("a", ("gemm",), "a", ((0, 64),), (1, 2)),
        Step("b", (), "b", ((0, 64),), (1, 2)),
        Step("c", ("add", "tail"), "c", ((64, 128),), (2, 3)),
    )
    held = (Held("a", 0, 64, 1, 2), Held("c", 64, 64, 2, 3))
    one = Layout("avx2", steps, held, 128)
    direct = dataclasses.replace(steps[0], kernels=("direct",))
    wider = Held("a", 0, 80, 1, 1)
    other = Layout("avx2", (direct, steps[1]), (wider, held[1]), 160)
    assert list(map(str, kernels(one, other))) == [
        "a: kernels gemm -> direct",
        "c: kernels add, tail -> computed in another op's",
    ]
    assert list(map(str, memory(one, other))) == [
        "arena: bytes 128 -> 160",
        "arena: most that is held at once 128 (step 2) -> 80 (step 1)",
        "a: bytes 64 -> 80",
    ]
    assert not [*kernels(one, one), *memory(one, one)]


def test_plans_of_the_same_length_are_compared_and_a_change_of_all_is_told_once(
    net: CompiledNetwork,
) -> None:
    def of_lengths(
        lengths: tuple[int, ...], plan: CompiledNetwork, shorter: CompiledNetwork
    ) -> CompiledNetwork:
        artifact = dataclasses.replace(plan.artifact, lengths=lengths)
        return dataclasses.replace(plan, artifact=artifact, shorter=(shorter,))

    op = net.graph.op("expand.relu6.q")
    assert isinstance(op, QConv2d)
    weights, scales = net.graph.data(op.weight) ^ 1, net.graph.tensor("residual.q").qparams
    weights.flags.writeable = False
    assert scales is not None
    of_all = changed(net, op.weight, data=weights)
    of_one = changed(of_all, "residual.q", qparams=dataclasses.replace(scales, scale=1.0))
    good = of_lengths((32, 16), net, net)
    found = between(good, of_lengths((32, 16), of_all, of_one))
    assert [(c.where, c.what[:8]) for c in found.tensors] == [
        ("expand.relu6.q", "weight, "),
        ("residual.q at 16", "scale"),
    ]
    found = between(good, of_lengths((16, 8), of_one, net))
    assert str(found.settings[0]) == "compile: lengths 32, 16 -> 16, 8"
    assert found.tensors[-1].where == "residual.q"
