"""Errors of tensors: against values computed in numpy, planted faults, and small networks."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted_network import Case, made
from numpy.testing import assert_allclose
from small_networks import NETWORKS

import qcomp
from qcomp.ir import Graph, TensorId
from qcomp.ir.evaluate import apply, evaluate, evaluate_all
from qcomp.ir.ops import Quantize, Weighted
from qcomp.passes.base import run_pass
from qcomp.passes.fuse_requantize import FuseRequantize
from qcomp.quant.qparams import QParams, dequantize, quantize
from qcomp.report.alone import Cause, TensorError
from qcomp.report.errors import Measurement
from qcomp.report.pairs import Pairs, unrounded
from qcomp.report.shares import OutputShares

Array = Any
Errors = Mapping[TensorId, TensorError]


def pairs_of(case: Case, qdq: Graph | None = None) -> Pairs:
    qdq = case.qdq if qdq is None else qdq
    return Pairs(case.float_graph, qdq, run_pass(qdq, FuseRequantize())[0])


@pytest.fixture(scope="module")
def case() -> Case:
    return made()


def measured(pairs: Pairs, case: Case, correction: str | None = None) -> Errors:
    measurement = Measurement(pairs, correction)
    for sample in case.samples:
        measurement.add(sample)
    assert measurement.notes == ()  # the code ran, not the specification
    return {error.real: error for error in measurement.found}


def q_of(pairs: Pairs, id: TensorId) -> QParams:
    q = pairs.integer.tensor(id).qparams
    assert q is not None
    return q


def power(x: Array) -> float:
    return float(np.sum(x.astype(np.float64) ** 2))


def test_cumulative_errors_are_those_of_the_specification(case: Case) -> None:
    pairs = pairs_of(case)
    found = measured(pairs, case)
    expected: dict[TensorId, list[Array]] = {}
    real: dict[TensorId, list[Array]] = {}
    (image,) = pairs.integer.inputs.values()
    for sample in case.samples:
        floats = evaluate_all(case.float_graph, sample)
        given = {"image": quantize(sample["image"], q_of(pairs, image))}
        for id, value in evaluate_all(pairs.integer, given).items():
            expected.setdefault(id, []).append(dequantize(value, q_of(pairs, id)))
            real.setdefault(id, []).append(floats[pairs.floats[id]])
    assert {e.id for e in found.values()} == set(expected)
    for error in found.values():
        y, got = np.stack(real[error.id]), np.stack(expected[error.id])
        figures = error.cumulative
        assert figures is not None
        assert figures.cosine is not None
        assert_allclose(figures.noise.signal, power(y), rtol=1e-4)
        assert_allclose(figures.noise.noise, power(got - y), rtol=1e-3)
        assert_allclose(figures.max_steps, np.abs(got - y).max() / error.qparams.scale, rtol=1e-3)
        cosine = np.sum(y * got) / np.sqrt(np.sum(y**2) * np.sum(got**2))
        assert_allclose(figures.cosine, cosine, atol=1e-5)
        channels = (got - y).reshape(-1, y.shape[-1])
        bias = len(channels) * np.sum(channels.mean(axis=0) ** 2)
        assert_allclose(figures.bias, bias, rtol=1e-2, atol=1e-6 * power(y))


@pytest.mark.parametrize("correction", [None, "empirical", "analytic"])
def test_isolated_errors_are_each_op_s_own_by_parts(case: Case, correction: str | None) -> None:
    """Weights, clipping, rounding and arithmetic, as the docstring has them, op by op in numpy."""
    pairs = pairs_of(case, with_moved_bias(case.qdq, "c", 0.05))
    found = measured(pairs, case, correction)
    for op in pairs.integer.ops():
        made_of = pairs.float_op(op)
        assert made_of is not None
        q, error = q_of(pairs, op.output), found[made_of.output]
        parts: dict[str, float] = dict.fromkeys(Cause, 0.0)
        total = 0.0
        for sample in case.samples:
            real = evaluate_all(case.float_graph, sample)
            constants = evaluate_constants(pairs.qdq)
            given = {t: quantize(real[pairs.floats[t]], q_of(pairs, t)) for t in op.inputs[:1]}
            given |= {
                t: quantize(real[pairs.floats[t]], q_of(pairs, t))
                for t in pairs.integer.activations(op)
            }
            values = {**constants, **real}
            names = {f"{pairs.floats[t]}.dq": t for t in given}
            plain = {
                t: values[t.removesuffix(".dq")] if t in names else values.get(t)
                for t in made_of.inputs
            }
            rounded = {
                t: dequantize(given[names[t]], q_of(pairs, names[t])) if t in names else plain[t]
                for t in made_of.inputs
            }
            own_bias = plain
            if isinstance(made_of, Weighted):
                layer = case.float_graph.op(made_of.output)
                assert isinstance(layer, Weighted)
                own_bias = {**plain, made_of.bias: case.float_graph.data(layer.bias)}
            y = real[made_of.output]
            y_w, y_b, y_x = (
                apply(pairs.qdq, made_of, values)  # type: ignore[arg-type]
                for values in (own_bias, plain, rounded)
            )
            got = dequantize(apply(pairs.integer, op, given), q)
            if correction == "analytic":
                y_w = y_b
            value = y_w if correction == "empirical" else y_b
            on_grid = dequantize(quantize(value, q), q)
            arithmetic = got - dequantize(quantize(y_x, q), q)
            inside = np.clip(value, *q.range)
            parts[Cause.WEIGHTS] += power(y_w - y)
            parts[Cause.BIAS] += power(y_b - y_w)
            parts[Cause.CLIPPING] += power(value - inside)
            parts[Cause.ROUNDING] += power(on_grid - inside)
            parts[Cause.REQUANTIZE] += power(arithmetic)
            total += power(on_grid - y + arithmetic)
        assert error.isolated is not None
        assert_allclose(error.isolated.figures.noise.noise, total, rtol=2e-2)
        for cause, value in error.isolated.causes.items():
            assert_allclose(value, parts[cause], rtol=5e-2, atol=1e-3 * total, err_msg=cause)


def evaluate_constants(qdq: Graph) -> dict[TensorId, Array]:
    """Weights and biases as rounded."""
    found: dict[TensorId, Array] = {}
    for op in qdq.ops():
        if not qdq.activations(op):
            found[op.output] = apply(qdq, op, found)
    return found


def with_qparams(qdq: Graph, id: TensorId, **changes: Any) -> Graph:
    graph = qdq.clone()
    q = graph.tensor(id).qparams
    assert q is not None
    graph.update_tensor(
        dataclasses.replace(graph.tensor(id), qparams=dataclasses.replace(q, **changes))
    )
    return graph


def test_a_clipped_range_is_named_as_the_cause(case: Case) -> None:
    (quantized,) = [op for op in case.qdq.ops() if isinstance(op, Quantize) and op.x == "c"]
    q = case.qdq.tensor(quantized.output).qparams
    assert q is not None
    faulty = measured(
        pairs_of(case, with_qparams(case.qdq, quantized.output, scale=q.scale / 4)), case
    )
    alone = faulty["c"].isolated
    assert alone is not None
    assert alone.main_cause is Cause.CLIPPING
    assert alone.clipped > 0.01
    others = [e.isolated.clipped for e in faulty.values() if e.isolated and e.real != "c"]
    assert alone.clipped > 4 * max(others)


def with_moved_bias(qdq: Graph, layer: TensorId, by: float) -> Graph:
    graph = qdq.clone()
    op = graph.op(layer)
    assert isinstance(op, Weighted)
    id = op.bias
    while (made_of := graph.producer(id)) is not None:
        id = made_of.inputs[0]
    moved = graph.data(id) + np.float32(by)
    moved.flags.writeable = False
    graph.update_tensor(dataclasses.replace(graph.tensor(id), data=moved))
    return graph


def test_a_wrong_bias_is_named_and_shifts_means(case: Case) -> None:
    pairs = pairs_of(case, with_moved_bias(case.qdq, "c", 0.5))
    alone = measured(pairs, case)["c"].isolated
    assert alone is not None
    assert alone.main_cause is Cause.BIAS
    assert alone.figures.bias > 0.5 * alone.figures.noise.noise


def test_a_bias_that_takes_back_other_errors_is_none_itself(case: Case) -> None:
    pairs = pairs_of(case, with_moved_bias(case.qdq, "c", 0.5))
    alone = measured(pairs, case, correction="empirical")["c"].isolated
    assert alone is not None
    assert alone.main_cause is not Cause.BIAS
    assert alone.causes[Cause.BIAS] > alone.figures.noise.noise


def test_the_op_with_a_fault_has_the_largest_share_at_the_outputs(case: Case) -> None:
    (quantized,) = [op for op in case.qdq.ops() if isinstance(op, Quantize) and op.x == "c"]
    q = case.qdq.tensor(quantized.output).qparams
    assert q is not None
    faulty = pairs_of(case, with_qparams(case.qdq, quantized.output, scale=q.scale / 8))
    for pairs, culprit in ((pairs_of(case), None), (faulty, quantized.output)):
        measurement, shares = Measurement(pairs), OutputShares(pairs)
        for sample in case.samples:
            shares.add(*measurement.add(sample))
        ranked = shares.found()
        assert abs(sum(share.share for share in ranked) - 1.0) < 1e-6
        if culprit is not None:
            assert ranked[0].id == culprit
            assert ranked[0].share > 0.5


def test_shares_are_the_noise_of_one_op_s_error_in_the_float_network(case: Case) -> None:
    pairs = pairs_of(case)
    measurement, shares = Measurement(pairs), OutputShares(pairs)
    floats, isolated = measurement.add(case.samples[0])
    shares.add(floats, isolated)
    real = evaluate_all(case.float_graph, case.samples[0])
    for share in shares.found():
        id = pairs.floats[share.id]
        values = {**real, id: isolated[share.id]}
        behind = False
        for op in case.float_graph.ops():
            if op.output == id:
                behind = True
            elif behind:
                values[op.output] = apply(case.float_graph, op, values)
        if id == "image":
            values = evaluate_all(case.float_graph, {"image": isolated[share.id]})
        (out,) = case.float_graph.outputs.values()
        assert_allclose(share.noise.noise, power(values[out] - real[out]), rtol=1e-2, atol=1e-9)


def test_memory_does_not_grow_with_samples(case: Case) -> None:
    measurement, shares = Measurement(pairs_of(case)), OutputShares(pairs_of(case))
    sizes = []
    for sample in case.samples:
        shares.add(*measurement.add(sample))
        sizes.append(len(pickle.dumps((measurement._sums, measurement._alone))))
    assert max(sizes) - min(sizes) < 500  # integers take a byte more as they get larger
    assert shares.samples == 8


def test_the_graph_without_rounding_is_the_float_one_but_for_its_constants(case: Case) -> None:
    graph = unrounded(case.qdq)
    assert not [op for op in graph.ops() if isinstance(op, Quantize)]
    (out,) = case.float_graph.outputs
    found = evaluate(graph, case.samples[0])[out]
    expected = evaluate(case.float_graph, case.samples[0])[out]
    assert 0.0 < np.abs(found - expected).max() < 0.5 * np.abs(expected).max()


QUICK = [(name, 8) for name in ("focus", "movement", "transformer", "unet")] + [("arithmetic", 16)]
EVERY = [(name, bits) for name in sorted(NETWORKS) for bits in (8, 16)]


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("name", "bits"),
    [
        pytest.param(
            *case, marks=() if case in QUICK else pytest.mark.slow, id=f"{case[0]}-{case[1]}"
        )
        for case in EVERY
    ],
)
def test_small_networks_are_measured(name: str, bits: int, compiled_once: Any) -> None:
    network = NETWORKS[name]
    net = qcomp.load(compiled_once(name, activation_bits=bits))
    data = network.samples(3)
    found = net.errors(data, model=network.build(), calibration=network.samples(12))
    assert found.samples == 3
    assert found.tensors
    measured_ = [e for e in found.tensors if e.isolated is not None]
    assert all(e.isolated is not None or e.reason for e in found.tensors)
    assert {share.id for share in found.shares} == {e.id for e in measured_}
    for error in measured_:
        assert error.isolated is not None
        alone = error.isolated
        powers = [p for c, p in alone.causes.items() if c not in alone.outside]
        noise = error.isolated.figures.noise.noise
        assert noise <= 5.001 * sum(powers) + 1e-6  # of five parts of a sum, by Cauchy and Schwarz


def test_without_the_model_errors_of_weights_are_not_known_and_that_is_told(
    compiled_once: Any,
) -> None:
    network = NETWORKS["mobilenet_v2"]
    net = qcomp.load(compiled_once("mobilenet_v2"))
    found = net.errors(network.samples(2))
    (note,) = found.notes
    assert "rounded weights and no other rounding: give the model" in note
    assert not any(e.isolated.causes[Cause.WEIGHTS] for e in found.tensors if e.isolated)


def test_another_model_is_told_and_not_compared_with(compiled_once: Any) -> None:
    network = NETWORKS["mobilenet_v2"]
    net = qcomp.load(compiled_once("mobilenet_v2"))
    other = network.build()
    for constant in other.graph.initializer:
        if len(constant.dims) == 4:
            values = np.frombuffer(constant.raw_data, np.float32)
            constant.raw_data = np.roll(values, 1).tobytes()
    found = net.errors(network.samples(2), model=other, calibration=network.samples(12))
    (note,) = found.notes
    assert "to the model's: expected the --calibration" in note
    assert not any(e.isolated.causes[Cause.WEIGHTS] for e in found.tensors if e.isolated)


@pytest.mark.slow
def test_a_model_that_is_quantized_already_is_compared_without_its_rounding(
    compiled_once: Any, tmp_path: Path
) -> None:
    network = NETWORKS["mobilenet_v2"]
    qcomp.load(compiled_once("mobilenet_v2")).export(tmp_path / "qdq.onnx", "qdq")
    net = qcomp.compile(tmp_path / "qdq.onnx", recipe="fast")
    found = net.errors(network.samples(2), model=tmp_path / "qdq.onnx")
    assert any("the model is quantized already" in note for note in found.notes)
    assert {e.mnemonic for e in found.tensors if e.isolated} > {"q_conv2d"}
    assert found.output_noise.db > 10
    page = net.report(tmp_path / "page.html", model=tmp_path / "qdq.onnx", data=network.samples(2))
    assert "quantized already" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_code_for_another_machine_is_measured_too(compiled_once: Any) -> None:
    """Errors are those of the bits, which all targets have alike."""
    network = NETWORKS["mobilenet_v2"]
    data, config = network.samples(12), qcomp.QuantizationConfig(recipe="fast", activation_bits=8)
    model = network.build()
    there = qcomp.compile(model, "aarch64", calibration=data, config=config, name="net")
    found = [
        net.errors(data, count=2, model=model, calibration=data)
        for net in (there, qcomp.load(compiled_once("mobilenet_v2", activation_bits=8)))
    ]
    assert [e.cumulative for e in found[0].tensors] == [e.cumulative for e in found[1].tensors]
