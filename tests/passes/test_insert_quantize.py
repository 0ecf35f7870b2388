"""Quantize and dequantize around every float op."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcomp.config import QuantizationConfig
from qcomp.errors import PassError
from qcomp.ir import Form, Graph, parse, verify
from qcomp.ir.evaluate import evaluate, evaluate_all
from qcomp.ir.graph import constants_of
from qcomp.ir.ops import FakeQuantConstant
from qcomp.passes.base import run_pass
from qcomp.passes.events import PassLog
from qcomp.passes.insert_quantize import InsertQuantize
from qcomp.quant.qparams import QParams

NETWORK = """
graph @network(%x: f32[1,5,5,3] range=(-1.0, 1.0)) {
  %w = constant : f32[4,3,3,3]
  %b = constant : f32[4]
  %conv = conv2d(%x, %w, %b) {clamp=ClampRange(low=0.0, high=6.0)} : f32[1,3,3,4] range=(0.0, 6.0)
  %k = constant : f32[4]
  %scaled = mul(%conv, %k) : f32[1,3,3,4] range=(-3.0, 3.0)
  %pool = max_pool2d(%scaled) {kernel=(3, 3)} : f32[1,1,1,4] range=(-1.0, 2.5)
  %fw = constant : f32[2,4]
  %fb = constant : f32[2]
  %y = dense(%pool, %fw, %fb) : f32[1,1,1,2] range=(-4.0, 4.0)
  return y=%y
}
"""


def network(text: str = NETWORK, seed: int = 0) -> Graph:
    graph = parse(text)
    random = np.random.default_rng(seed)
    arrays = {id: random.normal(size=a.shape).astype(np.float32) for id, a in constants_of(graph)}
    return parse(text, arrays)


def quantize(**options: Any) -> InsertQuantize:
    decided = {"weight_range": "minmax", "activation_bits": 8, **options}
    return InsertQuantize(QuantizationConfig(**decided))


def quantized(text: str, **options: Any) -> tuple[Graph, PassLog]:
    return run_pass(network(text), quantize(**options))


def test_a_network(golden: Any) -> None:
    after, log = quantized(NETWORK)
    golden(str(after), log.text)


def test_the_function_moves_by_little() -> None:
    graph = network(NETWORK.replace("(-3.0, 3.0)", "(-12.0, 12.0)").replace("4.0)", "12.0)"))
    after, _ = run_pass(graph, quantize())
    x = np.random.default_rng(1).uniform(-1, 1, (1, 5, 5, 3)).astype(np.float32)
    ours, exact = evaluate(after, {"x": x})["y"], evaluate(graph, {"x": x})["y"]
    assert np.abs(exact).max() > 1.0
    assert np.abs(ours - exact).max() < 0.2


def test_inserting_twice_changes_nothing() -> None:
    once, _ = quantized(NETWORK)
    before, log = str(once), PassLog()
    quantize().run(once, log)
    once.sweep()
    assert str(once) == before
    assert log.text == "skip network: quantized already"


def test_weights_have_a_scale_per_channel_or_one_for_all() -> None:
    per_channel, _ = quantized(NETWORK)
    assert per_channel.type("w.scale").shape == (4,)
    peaks = np.abs(per_channel.data("w")).reshape(4, -1).max(axis=1)
    np.testing.assert_allclose(per_channel.data("w.scale"), peaks / 127, rtol=1e-6)
    per_tensor, _ = quantized(NETWORK, per_channel=False)
    assert per_tensor.type("w.scale").shape == (1,)
    np.testing.assert_allclose(per_tensor.data("w.scale"), [peaks.max() / 127], rtol=1e-6)


def test_a_bias_has_the_scale_of_the_accumulator() -> None:
    after, _ = quantized(NETWORK)
    x = after.tensor("x.q").qparams
    assert x is not None
    np.testing.assert_array_equal(after.data("b.scale"), after.data("w.scale") * x.scale)


def test_symmetric_activations_have_the_zero_point_zero() -> None:
    after, _ = quantized(NETWORK, symmetric_activations=True)
    found = [t.qparams.zero_point for t in after.tensors() if t.qparams is not None]
    assert len(found) == 5
    assert set(found) == {0}


def test_a_weight_that_two_layers_share_is_rounded_for_each() -> None:
    after, _ = quantized(
        """graph @g(%x: f32[1,4] range=(-1.0, 1.0), %z: f32[1,4] range=(-9.0, 9.0)) {
          %w = constant : f32[4,4]
          %b = constant : f32[4]
          %p = dense(%x, %w, %b) : f32[1,4] range=(-1.0, 1.0)
          %q = dense(%z, %w, %b) : f32[1,4] range=(-1.0, 1.0)
          return p=%p, q=%q
        }"""
    )
    assert after.op("p").inputs == ("x.dq", "w.fq", "b.fq")
    assert after.op("q").inputs == ("z.dq", "w.fq.1", "b.fq.1")
    np.testing.assert_allclose(after.data("b.scale.1"), 9 * after.data("b.scale"), rtol=1e-6)


def test_dead_and_near_dead_channels_are_noted_and_can_hold_their_bias() -> None:
    graph = network()
    weight = graph.data("w").copy()
    weight[1], weight[2] = 0.0, weight[2] * 1e-12
    arrays = {**dict(constants_of(graph)), "w": weight}
    after, log = run_pass(parse(NETWORK, arrays), quantize())
    assert "note conv: 1 dead channels, 1 scales raised to fit 32 bits" in log.lines
    biases = np.abs(after.data("b") / after.data("b.scale"))
    assert biases.max() < 2**30


def test_constant_operands_are_rounded_with_one_scale() -> None:
    after, _ = quantized(NETWORK)
    scaled = after.op("scaled")
    assert scaled.inputs == ("conv.dq", "k.fq")
    np.testing.assert_allclose(after.data("k.scale"), [np.abs(after.data("k")).max() / 127])


BINARY = """graph @g(%x: f32[2,2] range=(-1.0, 1.0)) {{
  %k = constant : {type}
  %y = {op}(%x, %k) : f32[2,2] range=(-1.0, 1.0)
  return y=%y
}}"""


def test_a_constant_of_zeros_has_the_scale_of_the_result() -> None:
    after, _ = run_pass(parse(BINARY.format(op="add", type="f32[2]")), quantize())
    assert after.data("k.scale").tolist() == [after.tensor("y.q").qparams.scale]


@pytest.mark.parametrize("op", ["add", "sub", "mul", "div"])
def test_a_scalar_operand_stays_a_scalar(op: str) -> None:
    after, _ = quantized(BINARY.format(op=op, type="f32[]"))
    assert after.type("k.fq").shape == ()
    assert after.op("y").inputs == ("x.dq", "k.fq")


def test_a_constant_matrix_is_rounded() -> None:
    after, _ = quantized(BINARY.format(op="matmul", type="f32[2,2]"))
    assert after.op("y").inputs == ("x.dq", "k.fq")


@pytest.mark.parametrize("op", ["minimum", "maximum"])
def test_constants_of_extremes_stay_and_take_the_common_scale(op: str) -> None:
    after, _ = quantized(BINARY.format(op=op, type="f32[2]"))
    assert after.op("y").inputs == ("x.dq", "k")


def test_an_op_that_reads_a_tensor_twice_reads_it_dequantized_twice() -> None:
    after, _ = quantized(
        """graph @g(%x: f32[2] range=(-1.0, 1.0)) {
          %y = mul(%x, %x) : f32[2] range=(0.0, 1.0)
          return y=%y
        }"""
    )
    assert after.op("y").inputs == ("x.dq", "x.dq")


def test_an_output_that_is_read_inside_is_quantized_once() -> None:
    after, _ = quantized(
        """graph @g(%x: f32[2] range=(-1.0, 1.0)) {
          %y = mul(%x, %x) : f32[2] range=(0.0, 1.0)
          %z = add(%y, %x) : f32[2] range=(0.0, 2.0)
          return y=%y, z=%z, again=%y, x=%x
        }"""
    )
    assert after.outputs == {"y": "y.dq", "z": "z.dq", "again": "y.dq", "x": "x.dq"}
    assert [op.mnemonic for op in after.ops()].count("quantize") == 3


def test_a_pinned_tensor_is_rescaled_for_the_readers_that_copy_it() -> None:
    after, log = quantized(
        """graph @g(%x: f32[2] range=(-1.0, 1.0)) {
          %p = softmax(%x) {axis=0} : f32[2] range=(0.0, 1.0)
          %y = concat(%p, %x) {axis=0} : f32[4] range=(-1.0, 1.0)
          %s = add(%p, %p) : f32[2] range=(0.0, 2.0)
          return y=%y, s=%s, p=%p
        }"""
    )
    assert after.op("p.rescaled.q").inputs == ("p.dq",)
    assert after.op("y").inputs == ("p.rescaled.dq", "x.dq")
    assert after.op("s").inputs == ("p.dq", "p.dq")
    assert after.outputs["p"] == "p.dq"
    assert after.tensor("p.rescaled.q").qparams == QParams.from_range(-1.0, 1.0)
    assert "note p: rescaled to 0.00784314 for 1 readers" in log.lines


def test_inputs_that_nothing_reads_are_left_alone() -> None:
    after, _ = quantized(
        """graph @g(%x: f32[2] range=(-1.0, 1.0), %unread: f32[3] range=(0.0, 1.0)) {
          %y = mul(%x, %x) : f32[2] range=(0.0, 1.0)
          return y=%y
        }"""
    )
    verify(after, Form.QDQ)
    assert after.consumers("unread") == []


def test_batch_normalisation_must_have_been_folded() -> None:
    with pytest.raises(
        PassError, match=r"%y = batch_norm\((.|\n)*was not folded and has no integer"
    ):
        quantized(
            """graph @g(%x: f32[1,2] range=(-1.0, 1.0)) {
              %k = constant : f32[2]
              %y = batch_norm(%x, %k, %k, %k, %k) : f32[1,2] range=(0.0, 1.0)
              return y=%y
            }"""
        )


CHAIN = """
graph @chain(%x: f32[2,8] range=(-1.0, 1.0)) {
  %w = constant : f32[8,8]
  %b = constant : f32[8]
  %first = dense(%x, %w, %b) : f32[2,8] range=(-9.0, 9.0)
  %middle = dense(%first, %w, %b) : f32[2,8] range=(-40.0, 40.0)
  %last = dense(%middle, %w, %b) : f32[2,8] range=(-99.0, 99.0)
  return y=%last
}
"""


def weight_bits(graph: Graph) -> list[int]:
    layers = (graph.producer(graph.op(id).inputs[1]) for id in ("first", "middle", "last"))
    return [op.bits for op in layers if isinstance(op, FakeQuantConstant)]


def test_the_first_and_the_last_layer_keep_more_bits() -> None:
    assert weight_bits(quantized(CHAIN, weight_bits=2)[0]) == [8, 2, 8]
    after, log = quantized(CHAIN, weight_bits=2, first_last_weight_bits=4)
    assert weight_bits(after) == [4, 2, 4]
    assert "note middle: weights of 2 bits" in log.lines
    assert weight_bits(quantized(CHAIN, weight_bits=3, first_last_weight_bits=1)[0]) == [3, 3, 3]


def test_layers_have_their_own_choices() -> None:
    overrides = {"middle": {"weight_bits": 4, "per_channel": False}}
    after, _ = quantized(CHAIN, overrides=overrides)
    assert weight_bits(after) == [8, 4, 8]
    assert [after.type(f"w.scale{n}").shape for n in ("", ".1", ".2")] == [(8,), (1,), (8,)]


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_least_squares_round_better_than_peaks(bits: int) -> None:
    def error(method: str) -> float:
        after, _ = quantized(CHAIN, weight_bits=bits, weight_range=method)
        rounded = evaluate_all(after, FEED)[after.op("middle").inputs[1]]
        return float(np.square(rounded - network(CHAIN).data("w").astype(np.float64)).sum())

    assert error("mse") < 0.9 * error("minmax")


FEED = {"x": np.zeros((2, 8), np.float32)}


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_weights_of_least_squared_error_keep_the_gain_of_each_channel(bits: int) -> None:
    """As they are rounded they would be too small: by 12 % of the power at 2 bits."""
    graph = network()
    options = {"weight_range": "mse", "weight_bits": bits, "first_last_weight_bits": bits}
    after, _ = run_pass(graph, quantize(**options))
    values = evaluate_all(after, {"x": np.zeros((1, 5, 5, 3), np.float32)})
    for id in ("conv", "y"):
        weight = graph.data(graph.op(id).inputs[1]).astype(np.float64)
        rounded = values[after.op(id).inputs[1]]
        assert not np.allclose(rounded, weight, atol=1e-3)
        rows, q = (a.reshape(len(weight), -1) for a in (weight, rounded))
        np.testing.assert_allclose((rows * q).sum(axis=1), (rows**2).sum(axis=1), rtol=1e-4)
