"""Channels whose weights vanish beside their bias (onnxruntime issue 11415, found in MobileNetV3).

The bias is an int32 at scale_x * scale_w. Where a channel's weights are nearly 0 so is the scale
that suits them, and the bias of such a channel needs more than 32 bits; a quantizer that clips it
loses the whole channel. Batch normalisation makes such channels: gamma goes to 0, beta does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from network_builder import Array, Builder, Network
from numpy.testing import assert_array_equal

import qcomp
from qcomp.ir import ops
from qcomp.quant.grid import largest
from qcomp.quant.metrics import sqnr_db

TINY = 1e-12
BIAS = 5.0


def network(shrink: tuple[int, ...], factor: float = TINY) -> Network:
    """Three convolutions; those channels of the second have weights of factor, and a large bias."""

    def write(b: Builder, x: str) -> list[str]:
        y = b("Relu", b.conv(x, (16, 3, 3, 3)))
        weight, bias = b.normal(8, 16, 3, 3), b.normal(8) * 0.1
        weight[list(shrink)] *= factor
        bias[list(shrink)] = np.where(np.arange(len(shrink)) % 2, -0.9, 1.0) * BIAS
        y = b("Conv", y, weight, bias, pads=[1, 1, 1, 1])
        return [b.conv(y, (4, 8, 1, 1))]

    return Network(write, (1, 3, 10, 10), ())


def compiled(net: Network, **choices: Any) -> qcomp.CompiledNetwork:
    config = qcomp.QuantizationConfig(
        recipe="fast", equalize=False, weight_range="mse", first_last_weight_bits=1, **choices
    )
    return qcomp.compile(net.build(), calibration=net.samples(8), config=config)


def second(net: qcomp.CompiledNetwork) -> ops.QConv2d:
    found = [op for op in net.graph.ops() if isinstance(op, ops.QConv2d)]
    return found[1]


@pytest.mark.parametrize(
    ("shrink", "per_channel"), [((2, 5), True), (tuple(range(8)), True), (tuple(range(8)), False)]
)
@pytest.mark.parametrize("bits", [8, 4])
def test_the_scale_is_raised_until_the_bias_fits(
    shrink: tuple[int, ...], per_channel: bool, bits: int
) -> None:
    network_ = network(shrink)
    net = compiled(network_, weight_bits=bits, per_channel=per_channel)
    op = second(net)
    x, y = (net.graph.tensor(t).qparams for t in (op.x, op.output))
    assert x is not None
    assert y is not None
    naive = x.scale * TINY / largest(bits)  # of weights that are TINY at most
    assert BIAS / naive > 2.0**31
    bias = net.graph.data(op.bias)[list(shrink)]
    assert np.abs(bias).max() < 2**30 * (1 + 2.0**-9)  # scales are snapped after they are raised
    real = net.graph.data(op.multiplier) * 2.0 ** -net.graph.data(op.shift)
    step = real * y.scale / (2.0**15 if op.requantize.form.value == "narrow" else 1.0)
    stored = bias * (step[list(shrink)] if step.size > 1 else step)
    expected = np.where(np.arange(len(shrink)) % 2, -0.9, 1.0) * BIAS
    np.testing.assert_allclose(stored, expected, rtol=1e-3)
    certificate = net.records[-1].log.text
    assert f"note {op.id}: " in certificate


@pytest.mark.parametrize(
    ("shrink", "per_channel", "bits"),
    [((2, 5), True, 4), (tuple(range(8)), True, 8), (tuple(range(8)), False, 4)],
)
def test_the_network_keeps_the_quality_it_has_with_dead_channels(
    shrink: tuple[int, ...], per_channel: bool, bits: int
) -> None:
    def quality(factor: float) -> float:
        network_ = network(shrink, factor)
        net = compiled(network_, weight_bits=bits, per_channel=per_channel)
        x = network_.samples(4, seed=1)
        (answer,), (expected,) = net(x).values(), reference(network_, x)
        assert_array_equal(answer, *net.specification(x).values())
        return sqnr_db(expected, answer)

    dead = quality(0.0)
    assert dead > 15
    assert quality(TINY) > dead - 0.5
    assert quality(1e-38) > dead - 0.5


def reference(network_: Network, x: dict[str, Array]) -> list[Array]:
    import onnxruntime

    session = onnxruntime.InferenceSession(network_.build().SerializeToString())
    count = len(x["x0"])
    runs = [session.run(None, {"x0": x["x0"][i : i + 1]})[0] for i in range(count)]
    return [np.concatenate(runs)]
