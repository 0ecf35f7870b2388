"""What layers are fitted to is what the two networks really compute."""

from __future__ import annotations

import numpy as np
import pytest
from fitted_network import made
from numpy.testing import assert_allclose, assert_array_equal

from qcomp.calibration.sampled import positions
from qcomp.execute.session import FloatSession
from qcomp.ir.evaluate import evaluate_all
from qcomp.passes.lib.qdq import operand_qparams, quantized_operand
from qcomp.quant.qparams import INTEGERS, QParams, dequantize, integer_range
from qcomp.reconstruction.blocks import Taps, Windows
from qcomp.reconstruction.prefix import QuantizedPrefix, kept_bytes
from qcomp.reconstruction.rows import Read, float_results, floats_by_group, layer_rows

EVERY = 10**6


def test_each_layer_reads_the_integers_of_the_whole_graph() -> None:
    c = made()
    read = [quantized_operand(c.qdq, layer.x) for layer in c.layers]
    whole = FloatSession(c.qdq, extra_outputs=list(dict.fromkeys(read)))
    expected = [whole.run(sample) for sample in c.samples]
    prefix = QuantizedPrefix(c.qdq, c.layers, c.samples)
    for layer, id in zip(c.layers, read, strict=True):
        for got, values in zip(prefix.inputs(layer), expected, strict=True):
            assert_array_equal(got, values[id])
    assert prefix.kept == 0


def test_a_layer_may_change_before_the_next_one_is_asked_for() -> None:
    c = made()
    first, second = c.layers[:2]
    prefix = QuantizedPrefix(c.qdq, [first, second], c.samples)
    prefix.inputs(first)
    bias = c.qdq.producer(first.bias)
    assert bias is not None
    c.qdq.replace_op(bias.with_input(0, c.qdq.add_constant("moved", np.full(8, 99, np.float32))))
    assert all(x.max() == x.min() for x in prefix.inputs(second))


def test_what_is_kept_at_one_time_is_counted() -> None:
    c = made()
    plane = 9 * 9
    assert kept_bytes(c.qdq, c.layers[:1]) == plane * 3
    assert kept_bytes(c.qdq, c.layers) == plane * (8 + 8 + 8)  # %d follows from %a and %b


@pytest.mark.parametrize("index", range(5))
def test_rows_times_kernels_are_the_results_of_the_layer(index: int) -> None:
    c = made()
    layer = c.layers[index]
    every = {layer.id: positions(c.qdq, layer.output, EVERY)}
    results = float_results(c.float_graph, [layer], every, c.samples)[layer.id]
    prefix = QuantizedPrefix(c.qdq, [layer], c.samples)
    qparams = operand_qparams(c.qdq, layer.x)
    inputs = [Read(x, qparams) for x in prefix.inputs(layer)]
    kernel = c.qdq.type(layer.weight).shape
    rows = layer_rows(layer, kernel, every[layer.id], inputs, results)
    session = FloatSession(c.qdq, extra_outputs=[layer.id])
    values = [session.run(sample) for sample in c.samples]
    constants = evaluate_all(c.qdq, c.samples[0])
    weight = constants[layer.weight].reshape(rows.x.shape[0], -1, rows.x.shape[2])
    sums = rows.x @ weight.swapaxes(1, 2)
    got = sums.swapaxes(0, 1).reshape(-1, kernel[0]) + constants[layer.bias]
    low, high = layer.clamp.low, layer.clamp.high
    expected = np.concatenate([v[layer.id].reshape(-1, kernel[0]) for v in values])
    assert_allclose(np.clip(got, low, high), expected, rtol=1e-4, atol=1e-4)
    targets = rows.target.swapaxes(0, 1).reshape(-1, kernel[0])
    floats = [evaluate_all(c.float_graph, sample)[layer.id] for sample in c.samples]
    expected = np.concatenate([f.reshape(-1, kernel[0]) for f in floats])
    assert_allclose(np.clip(targets, low, high), expected, rtol=1e-4, atol=1e-4)


def test_positions_are_distinct_the_same_on_each_run_and_different_by_sample() -> None:
    c = made()
    first = positions(c.qdq, c.layers[0].output, 20)
    again = positions(c.qdq, c.layers[0].output, 20)
    assert len(set(first.of(0).tolist())) == 20
    assert_array_equal(first.of(0), again.of(0))
    assert not np.array_equal(first.of(0), first.of(1))
    assert_array_equal(positions(c.qdq, c.layers[0].output, EVERY).of(3), np.arange(81))


@pytest.mark.parametrize("groups", [1, 5, 40])
@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("bits", [8, 16])
def test_taps_where_they_lie_give_what_rows_by_channel_give(
    groups: int, multiplier: int, bits: int
) -> None:
    random = np.random.default_rng(groups)
    low, high = integer_range(bits)
    q = QParams(0.01, 0 if bits == 16 else -3, low, high)
    integers = random.integers(low, high, (3000, 9, groups)).astype(INTEGERS[bits])
    weight = random.normal(size=(groups, multiplier, 9)).astype(np.float32)
    exact = dequantize(integers, q).astype(np.float64)
    wanted = np.einsum("rkg,gok->gor", exact, weight.astype(np.float64))
    for block in (Taps(integers, q), Windows(floats_by_group(integers, q, groups))):
        found = block.summed(weight)
        assert found.count == 3000
        assert found.products is not None
        assert_allclose(found.products, wanted, atol=1e-5 * np.abs(wanted).max())
        for each in (found, block.summed(None)):
            assert_allclose(each.total, exact.sum(axis=0).T, rtol=1e-5, atol=1e-3 * 2 ** (bits - 8))
        assert each.products is None
