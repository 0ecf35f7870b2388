"""Recurrent layers in integers are near the floats, and their constants are certified."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recurrent_models import LAYERS, Layer

from qcomp.calibration.collect import collect
from qcomp.calibration.propagate import Beliefs
from qcomp.config import QuantizationConfig
from qcomp.errors import CalibrationError, PassError
from qcomp.frontends.onnx import import_onnx
from qcomp.ir import Graph
from qcomp.ir.evaluate import evaluate
from qcomp.ir.ops import Lstm, QGru, QLstm, QRecurrent
from qcomp.passes.annotate_ranges import AnnotateRanges
from qcomp.passes.base import run_pass
from qcomp.passes.certify_accumulators import CertifyAccumulators
from qcomp.passes.fuse_requantize import FuseRequantize
from qcomp.passes.insert_quantize import InsertQuantize
from qcomp.quant.moments import Moments
from qcomp.quant.qparams import dequantize, quantize
from qcomp.quant.recurrence import (
    MID_SHIFT,
    curve,
    mid_constants,
    mid_scaled,
    on_curve,
    peephole_constants,
)

SEEDS = range(12)


def floats(layer: Layer, seed: int) -> dict[str, np.ndarray]:
    return {name: a.astype(np.float32) for name, a in layer.feed(seed).items()}


def integer(layer: Layer, bits: int, **choices: Any) -> tuple[Graph, Graph]:
    """The float graph and the certified integer one, of ranges measured on SEEDS."""
    graph = import_onnx(layer.model()).graph
    config = QuantizationConfig(
        weight_range="minmax", range="minmax", activation_bits=bits, **choices
    )
    ranges = collect(graph, [floats(layer, seed) for seed in SEEDS]).ranges(config)
    result = graph
    for step in (AnnotateRanges(ranges), InsertQuantize(config), FuseRequantize()):
        result, _ = run_pass(result, step)
    run_pass(result, CertifyAccumulators())
    return graph, result


def decibels(layer: Layer, graph: Graph, result: Graph) -> float:
    signal = error = 0.0
    for seed in SEEDS:
        feed = floats(layer, seed)
        inside = {n: quantize(feed[n], result.tensor(t).qparams) for n, t in result.inputs.items()}
        found = evaluate(result, inside)
        for name, y in evaluate(graph, feed).items():
            q = dequantize(found[name], result.tensor(result.outputs[name]).qparams)
            signal += float((y.astype(np.float64) ** 2).sum())
            error += float(((q - y.astype(np.float64)) ** 2).sum())
    return 10 * np.log10(signal / error)


@pytest.mark.few(28)
@pytest.mark.parametrize(("bits", "bar"), [(8, 30.0), (16, 42.0)])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_near_the_floats(name: str, bits: int, bar: float) -> None:
    """At 16 bits the rounding of the weights is what is left."""
    layer = LAYERS[name]
    assert decibels(layer, *integer(layer, bits)) > bar


def recurrent(graph: Graph) -> QRecurrent:
    (found,) = (op for op in graph.ops() if isinstance(op, QRecurrent))
    return found


def test_the_result_is_what_weights_are_multiplied_by() -> None:
    """With 8 bits; with states that come in from outside, a range that holds both."""
    op = recurrent(integer(LAYERS["RNN states only"], 8)[1])
    assert (op.hidden.bits, op.result.bits) == (8, 8)
    state = recurrent(integer(LAYERS["GRU states only"], 8)[1])
    assert isinstance(state, QGru)
    assert (state.hidden.bits, state.result.bits) == (8, 16)
    plain = recurrent(integer(LAYERS["GRU plain"], 8)[1])
    assert plain.hidden == plain.result
    assert plain.hidden_factor == plain.result_factor


def test_a_cell_state_that_is_returned_has_16_bits_with_the_hidden_states() -> None:
    _, graph = integer(LAYERS["LSTM initial states"], 8)
    op = recurrent(graph)
    assert isinstance(op, QLstm)
    assert op.tail
    assert (op.hidden.bits, op.result.bits) == (8, 16)
    assert graph.type(op.initial_c).dtype.bytes == 2


def test_sums_of_gates_have_steps_of_a_power_of_two() -> None:
    for name in ("LSTM plain", "RNN of ReLU"):
        _, graph = integer(LAYERS[name], 8)
        qparams = graph.tensor(recurrent(graph).x).qparams
        assert qparams is not None
        assert np.frexp(qparams.scale)[0] == 0.5
        assert qparams.bits == 16
    assert recurrent(integer(LAYERS["LSTM plain"], 8)[1]).sum_bits == 11


def test_large_sums_have_larger_steps_and_saturate_late() -> None:
    layer = replace(LAYERS["LSTM plain"], spread=6.0)
    graph, result = integer(layer, 16)
    op = recurrent(result)
    assert op.x_shift > 0
    assert op.sum_bits == 11
    assert decibels(layer, graph, result) > 20.0


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_weights_of_few_bits(bits: int) -> None:
    _, graph = integer(LAYERS["GRU plain"], 8, weight_bits=bits)
    weight = graph.data(recurrent(graph).weight)
    assert len(np.unique(weight / np.gcd.reduce(weight, axis=None))) <= 2**bits


def believe(beliefs: Beliefs) -> None:
    for op in beliefs.graph.ops():
        beliefs.known[op.output] = beliefs.infer(op)


def test_no_data_is_needed_for_states_with_a_bound() -> None:
    one = np.ones(5)
    for name, bounded in (("LSTM states only", True), ("RNN of ReLU", False)):
        graph = import_onnx(replace(LAYERS[name], given=("B",)).model()).graph
        beliefs = Beliefs(graph)
        beliefs.known[graph.inputs["x"]] = Moments(0 * one, one, -one, one)
        if bounded:
            believe(beliefs)
            assert beliefs.read(graph.outputs["Y"]).range == (-1.0, 1.0)
            continue
        with pytest.raises(CalibrationError, match="needs calibration data"):
            believe(beliefs)


def test_sums_in_other_steps_are_refused() -> None:
    graph = import_onnx(LAYERS["LSTM plain"].model()).graph
    layer = next(op for op in graph.ops() if isinstance(op, Lstm))
    config = QuantizationConfig(weight_range="minmax", range="minmax", activation_bits=8)
    data = [floats(LAYERS["LSTM plain"], seed) for seed in SEEDS]
    result = graph
    ranges = collect(graph, data).ranges(config)
    for step in (AnnotateRanges(ranges), InsertQuantize(config)):
        result, _ = run_pass(result, step)
    id = next(t.id for t in result.tensors() if t.id.startswith(f"{layer.x}.q"))
    tensor = result.tensor(id)
    assert tensor.qparams is not None
    result.update_tensor(replace(tensor, qparams=replace(tensor.qparams, scale=3e-4)))
    with pytest.raises(PassError, match=r"in steps of 0\.0003; expected 16 and a power of two"):
        run_pass(result, FuseRequantize())


@given(st.lists(st.floats(1e-9, 60.0), min_size=1, max_size=5), st.integers(-(2**20), 2**20))
def test_factors_of_products_are_near_the_real_ones(real: list[float], acc: int) -> None:
    """Within half a step and 2^-12 of the value, where none is so large that others suffer."""
    factors = np.array(real[:1])
    m, k, left = mid_constants(factors)
    assert 0 <= m.min() <= m.max() < 2**12
    assert 0 <= k.min() <= k.max() <= 30
    expected = acc * factors
    if np.abs(expected).max() < 2**16 and abs(acc) << left < 2**30:
        error = np.abs(mid_scaled(np.array([acc]), m, k, left) - expected)
        bound = 1.0 + np.abs(expected) * 2.0**-11 + 2.0 ** (12 - MID_SHIFT)
        assert (error <= bound).all()


@given(st.floats(-30.0, 30.0))
def test_factors_of_peepholes_are_near_the_real_ones(real: float) -> None:
    m, s = peephole_constants(np.array([real]))
    assert abs(int(m[0])) < 2**11
    assert abs(m[0] * 2.0 ** -int(s[0]) - real) <= abs(real) * 2.0**-9 + 2.0**-25


def test_curves_are_within_two_steps_and_a_half_everywhere() -> None:
    u = np.arange(-(2**15), 2**15)
    for function in (np.tanh, lambda v: 1 / (1 + np.exp(-v))):
        entries, bits = curve(function, 11)
        assert bits == 15
        error = np.abs(on_curve(entries, u) - np.ldexp(function(u / 2.0**11), 15))
        assert error.max() < 2.5


def test_curves_of_functions_without_a_bound_have_fewer_fraction_bits() -> None:
    entries, bits = curve(lambda v: np.maximum(v, 0), 11)
    assert bits == 11
    u = np.arange(-(2**15), 2**15)
    np.testing.assert_array_equal(on_curve(entries, u), np.maximum(u, 0))
    with pytest.raises(ValueError, match="infinite"):
        curve(lambda v: np.where(v > 0, np.inf, 0.0), 11)
