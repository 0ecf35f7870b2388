"""Weights of 8 to 1 bits, in groups and with scales that are powers of two, down to the library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from network_builder import Builder, Network
from numpy.testing import assert_array_equal
from small_networks import NETWORKS

import qcomp
from qcomp.ir import ops
from qcomp.ir.graph import Graph
from qcomp.quant.fixed_point import Form
from qcomp.quant.packing import fewest_bits, powers_of_two

PLAIN: dict[str, Any] = {
    "recipe": "fast",
    "equalize": False,
    "rounding": "nearest",
    "first_last_weight_bits": 1,
}


def compiled(network: Network, **choices: Any) -> tuple[qcomp.CompiledNetwork, float]:
    """The network, exact as specified, and the SQNR of its outputs."""
    config = qcomp.QuantizationConfig(**{**PLAIN, "weight_range": "mse", **choices})
    net = qcomp.compile(network.build(), calibration=network.samples(12), config=config)
    x = network.samples(4, seed=1)
    for name, answer in net(x).items():
        assert_array_equal(answer, net.specification(x)[name])
    assert net.sqnr_db_output is not None
    return net, net.sqnr_db_output


def layers(graph: Graph) -> list[ops.QWeighted]:
    return [op for op in graph.ops() if isinstance(op, ops.QWeighted)]


def widths(graph: Graph) -> list[int]:
    """Of the codes: a channel may be a power of two times them."""
    weights = (graph.data(op.weight) for op in layers(graph))
    return [fewest_bits((w.T >> powers_of_two(w, 6)).T) for w in weights]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "per_channel"), [("resnet", True), ("mobilenet_v2", False)])
def test_every_bit_less_costs_accuracy_and_none_costs_exactness(
    name: str, per_channel: bool
) -> None:
    quality = []
    for bits in (8, 4, 3, 2, 1):
        net, sqnr = compiled(NETWORKS[name], weight_bits=bits, per_channel=per_channel)
        assert max(widths(net.graph)) <= bits
        quality.append(sqnr)
    assert quality[:3] == sorted(quality[:3], reverse=True)
    assert max(quality[3:]) < quality[2]  # ternary and binary are as good as each other here


@pytest.mark.few(1)
@pytest.mark.parametrize("bits", [4, 3, 2])
def test_groups_win_accuracy_back(bits: int) -> None:
    """Each layer by itself: with corrections layer by layer one makes up for another."""
    choices = {"weight_bits": bits, "bias_correction": "analytic"}
    plain, grouped = (compiled(NETWORKS["resnet"], group_size=g, **choices)[1] for g in (0, 8))
    assert grouped > plain + 1.0


def is_power_of_two(value: Any) -> bool:
    return bool((np.frexp(np.abs(np.asarray(value, np.float64)))[0] == 0.5).all())


@pytest.mark.parametrize(
    ("name", "per_channel", "snap"),
    [("resnet", True, True), ("resnet", False, False), ("mobilenet_v2", True, False),
     ("shufflenet", False, True)],
)  # fmt: skip
def test_scales_that_are_powers_of_two_need_shifts_only(
    name: str, per_channel: bool, snap: bool
) -> None:
    net, sqnr = compiled(
        NETWORKS[name], power_of_two_scales=True, per_channel=per_channel, snap_scales=snap
    )
    qparams = [t.qparams for t in net.graph.tensors() if t.qparams is not None]
    assert is_power_of_two([q.scale for q in qparams])
    for op in layers(net.graph):
        assert is_power_of_two(net.graph.data(op.multiplier))
    for add in net.graph.ops():
        if isinstance(add, ops.QAdd):
            assert is_power_of_two([add.a_multiplier, add.b_multiplier])
    assert sqnr > 15


def difference(b: Builder, x: str) -> list[str]:
    """Small differences of large values: the results' scale is far below the operands'."""
    y = b("Gemm", x, np.tile([[1.0, -1.0], [-0.5, 0.5]], (1, 8)), np.zeros(2), transB=1)
    return [b.dense(y, 2, 3)]


@pytest.mark.parametrize("bits", [8, 4, 3, 2, 1])
def test_multipliers_above_one_are_exact_in_the_wide_form(bits: int) -> None:
    network = Network(difference, (1, 16), ())
    random = np.random.default_rng(0)
    data = [
        {"x0": (random.normal() + 1e-3 * random.normal(size=(1, 16))).astype(np.float32)}
        for _ in range(40)
    ]
    config = qcomp.QuantizationConfig(**PLAIN, weight_bits=bits, weight_range="mse")
    net = qcomp.compile(network.build(), calibration=data, config=config)
    first = layers(net.graph)[0]
    real = net.graph.data(first.multiplier) * 2.0 ** -net.graph.data(first.shift)
    if bits < 8:
        assert first.requantize.form is Form.WIDE
        assert real.max() > 1.0
    for sample in data:
        assert_array_equal(net(sample)["Gemm_1_0"], net.specification(sample)["Gemm_1_0"])
