"""Noise of single parts against graphs built another way: all others are taken out by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.testing import assert_allclose

from qcomp.ir.evaluate import evaluate as evaluate_graph
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Dequantize, FakeQuantConstant, Quantize, Weighted
from qcomp.ir.verify import verify
from qcomp.precision.mixture import mixed
from qcomp.precision.parts import Kind, Part
from qcomp.precision.prepare import Preparation
from qcomp.precision.problem import (
    Problem,
    Task,
    answers_of,
    evaluate,
    evaluate_whole,
    tasks_of,
)
from qcomp.quant.noise import Noise

NAMES = ("resnet", "mobilenet_v2", "shufflenet", "unet", "detector", "siamese", "arithmetic")
NAMES += ("movement", "transformer")


def without(quantized: Graph, dropped: Callable[[Kind, str], bool]) -> Graph:
    """A QDQ graph with the quantizers of some weights (by layer) and activations taken out."""
    graph = quantized.clone()
    for op in graph.ops():
        if isinstance(op, FakeQuantConstant):
            (reader,) = graph.consumers(op.output)
            kind = Kind.WEIGHTS if isinstance(reader, Weighted) else Kind.ACTIVATION
            if dropped(kind, reader.id):
                graph.replace_uses(op.output, op.x)
        elif isinstance(op, Dequantize):
            quantize = graph.producer(op.x)
            assert isinstance(quantize, Quantize)
            source = quantize.x
            while isinstance(graph.producer(source), Dequantize):  # rescaled
                source = graph.op(graph.op(source).inputs[0]).inputs[0]
            if dropped(Kind.ACTIVATION, source):
                graph.replace_uses(op.output, quantize.x)
    graph.sweep()
    return graph


def noise(problem: Problem, graph: Graph) -> Noise:
    total = Noise()
    answers = answers_of(graph, problem.runs)
    for reference, answer in zip(problem.reference, answers, strict=True):
        total = total.plus(reference, answer)
    return total


def is_of(part: Part, kind: Kind, id: str) -> bool:
    return kind is part.kind and id in part.members


@pytest.mark.few(4)
@pytest.mark.parametrize("name", NAMES)
def test_each_part_rounded_alone_is_as_in_a_graph_of_its_own(
    prepare: Callable[..., Preparation], name: str
) -> None:
    problem = prepare(name, bias_correction=None).problem((8,), (8,))
    for kind in Kind:
        for task in tasks_of(problem, kind, 8):
            for part, found in zip(task.parts, evaluate(problem, task), strict=True):
                alone = without(problem.configured, lambda k, id, p=part: not is_of(p, k, id))
                expected = noise(problem, alone)
                assert found.signal == pytest.approx(expected.signal)
                floor = 1e-11 * found.signal
                assert found.noise == pytest.approx(expected.noise, rel=0.01, abs=floor), part


@pytest.mark.few(4)
@pytest.mark.parametrize("name", NAMES)
def test_each_part_in_float_alone_is_as_in_a_graph_of_its_own(
    prepare: Callable[..., Preparation], name: str
) -> None:
    problem = prepare(name, bias_correction=None).problem((8,), (8,))
    for kind in Kind:
        for task in tasks_of(problem, kind, None):
            for part, found in zip(task.parts, evaluate(problem, task), strict=True):
                others = without(problem.configured, lambda k, id, p=part: is_of(p, k, id))
                expected = noise(problem, others)
                assert found.noise == pytest.approx(expected.noise, rel=0.05), part


@pytest.mark.parametrize("name", NAMES)
def test_with_all_parts_quantized_the_graph_is_the_qdq_graph(
    prepare: Callable[..., Preparation], name: str
) -> None:
    problem = prepare(name).problem((8,), (8,))
    verify(problem.quantized, Form.QDQ)
    for run in problem.runs[:1]:
        ours = evaluate_graph(problem.quantized, run)
        expected = evaluate_graph(problem.configured, run)
        for output in expected:
            assert_allclose(ours[output], expected[output], rtol=0, atol=0)


def test_with_no_part_quantized_the_graph_is_the_float_graph(resnet: Problem) -> None:
    assert str(mixed(resnet.graph, {})) == str(resnet.graph)


def test_a_layer_brings_its_corrected_bias(resnet: Problem) -> None:
    layers = [part for part in resnet.parts if part.kind is Kind.WEIGHTS]
    graph = mixed(resnet.graph, {layers[1]: resnet.configured})
    for part in layers:
        op, source = graph.op(part.id), resnet.configured.op(part.id)
        bias = graph.producer(op.inputs[2])
        if part == layers[1]:
            assert isinstance(bias, FakeQuantConstant)
            corrected = resnet.configured.op(source.inputs[2]).inputs[0]
            np.testing.assert_array_equal(
                graph.data(bias.x), resnet.configured.data(corrected), strict=True
            )
        else:
            assert op == resnet.graph.op(part.id)


def test_the_base_before_the_change_does_not_run_again(resnet: Problem) -> None:
    """The last layer's own graph is small; what it reads are the results before it."""
    from qcomp.precision.cut import cut

    last = [part for part in resnet.parts if part.kind is Kind.WEIGHTS][-1]
    one = cut(resnet.graph, resnet.changed(Kind.WEIGHTS, 8, last))
    assert one.suffix is not None
    assert [type(op).__name__ for op in one.suffix.ops()] == [
        "FakeQuantConstant",
        "FakeQuantConstant",
        "Dense",
    ]
    assert one.reads == (resnet.graph.op(last.id).inputs[0],)


def test_a_graph_that_does_not_differ_has_nothing_to_run(resnet: Problem) -> None:
    from qcomp.precision.cut import cut

    one = cut(resnet.graph, resnet.graph.clone())
    assert one.suffix is None
    assert one.wanted == list(resnet.graph.outputs.values())


def test_parts_in_other_company_have_the_same_numbers(resnet: Problem) -> None:
    (task,) = tasks_of(resnet, Kind.WEIGHTS, 8)
    together = evaluate(resnet, task)
    for part, expected in zip(task.parts, together, strict=True):
        (alone,) = evaluate(resnet, Task(Kind.WEIGHTS, 8, (part,)))
        assert alone.db == pytest.approx(expected.db, abs=0.01)


def test_the_whole_network_is_as_noisy_as_the_compiler_says(
    prepare: Callable[..., Preparation],
) -> None:
    problem = prepare("mobilenet_v2", equalize=True).problem((8,), (8,))
    from small_networks import NETWORKS

    import qcomp

    network = NETWORKS["mobilenet_v2"]
    config = qcomp.QuantizationConfig(recipe="fast", range="minmax", equalize=True)
    net = qcomp.compile(network.build(), calibration=network.samples(4), config=config)
    assert net.sqnr_db_output is not None
    assert evaluate_whole(problem, problem.configured)[0].db == pytest.approx(
        net.sqnr_db_output, abs=1.0
    )


def test_an_activation_of_16_bits_is_far_finer(prepare: Callable[..., Preparation]) -> None:
    """48 dB, less 6 for one that has no negative values, and less the room that ranges get."""
    problem = prepare("resnet", bias_correction=None).problem((8,), (8, 16))
    for eight, sixteen in zip(
        tasks_of(problem, Kind.ACTIVATION, 8), tasks_of(problem, Kind.ACTIVATION, 16), strict=True
    ):
        pairs = zip(evaluate(problem, eight), evaluate(problem, sixteen), strict=True)
        for coarse, fine in pairs:
            assert coarse.db + 30 < fine.db < coarse.db + 55
