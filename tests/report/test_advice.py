"""Advice: what is noticed on networks that were compiled badly, and what it gains to follow it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import qcomp
from qcomp.report.advice import Advice


def network() -> onnx.ModelProto:
    """Channels far apart: one scale for all of them leaves most of them no integers."""
    random = np.random.default_rng(0)
    rows = 10.0 ** np.linspace(-2, 1, 16)
    wide = rows[:, None, None, None] * random.normal(size=(16, 3, 3, 3))
    back = random.normal(size=(8, 16, 1, 1)) / rows[None, :, None, None]
    back[0] = -np.abs(back[0])  # and a channel that is 0 behind its Relu
    dense = random.normal(size=(8, 5))
    arrays = {"w": wide, "v": back, "d": dense, "zero": np.full(8, -0.1)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "v", "zero"], ["b"]),
        helper.make_node("Relu", ["b"], ["s"]),
        helper.make_node("GlobalAveragePool", ["s"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "d"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "unequal",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


DATA = [np.random.default_rng(i).normal(size=(1, 3, 8, 8)).astype(np.float32) for i in range(20)]


def advised(**choices: Any) -> tuple[str, ...]:
    config = qcomp.QuantizationConfig(recipe="fast", **choices)
    net = qcomp.compile(network(), calibration=DATA, config=config, advise=True)
    assert isinstance(net.advice, tuple)
    return net.advice


def gains(text: str) -> tuple[float, float]:
    before, after = text.rpartition("y: ")[2].removesuffix(" dB)").split(" to ")
    return float(before), float(after)


def test_one_scale_per_tensor_is_named_with_what_others_gain() -> None:
    first, second, *_ = advised(per_channel=False, equalize=False)
    assert first.startswith("channels are not equalized")
    assert second.startswith("weights have one scale per tensor: one per channel")
    for told, least in ((first, 20), (second, 5)):
        before, after = gains(told)
        assert after > before + least


def test_what_is_followed_is_worth_what_was_told() -> None:
    first, *_ = advised(per_channel=False, equalize=False)
    _, after = gains(first)
    found = [
        qcomp.compile(network(), calibration=DATA, config=config).sqnr_db_output
        for config in (
            qcomp.QuantizationConfig(recipe="fast", per_channel=False, equalize=False),
            qcomp.QuantizationConfig(recipe="fast", per_channel=False, equalize=True),
        )
    ]
    assert found[1] == pytest.approx(after, abs=4.0)
    assert found[0] is not None
    assert found[1] > found[0] + 20


def test_dead_channels_are_counted() -> None:
    (told,) = [text for text in advised() if "0 on all calibration data" in text]
    assert told.startswith("1 channel is 0 on all calibration data: %f (1 of 8); ")


def test_a_head_of_coarse_steps_wants_16_bits() -> None:
    told = advised(overrides={"y": {"range": (-4000.0, 4000.0)}})
    (head,) = [text for text in told if "its head wants 16 bits" in text]
    assert head.startswith("the output y: its own rounding, of %y.q, makes")
    before, after = gains(head)
    assert after > before + 10


def test_an_output_beyond_its_range_is_told() -> None:
    told = advised(overrides={"y": {"range": (-0.1, 0.1)}})
    assert any("% of its values are beyond the range of %y.q" in text for text in told)
    assert not any("its head wants 16 bits" in text for text in told)
    (op,) = [text for text in told if text.startswith("%y.q alone makes")]
    assert "by clipping: its range cuts values off" in op


def test_what_gains_nothing_is_not_advised() -> None:
    for text in advised():
        if "(tried:" in text:
            before, after = gains(text)
            assert after > before


def test_without_data_there_are_findings_only() -> None:
    net = qcomp.compile(network(), recipe="fast", calibration=DATA[:2], advise=True)
    assert any("2 samples, fewer than 16" in text for text in net.advice)


def test_an_advice_prints_what_it_gains() -> None:
    assert str(Advice("try this")) == "try this"
    tried = Advice("try this", before={"y": 3.0, "z": 1.0}, after={"y": 5.0, "z": 4.0})
    assert str(tried) == "try this (tried: y: 3.0 to 5.0 dB, z: 1.0 to 4.0 dB)"
    assert tried.gain_db == 3.0
    assert Advice("try this").gain_db is None
