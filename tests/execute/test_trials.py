"""Trials give what the whole network gives with the same tensors rounded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qcomp.execute.blocks import blocks_of
from qcomp.execute.session import FloatSession
from qcomp.execute.trials import Answers, Trials, best_count
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Quantize
from qcomp.ir.parse import parse
from qcomp.ir.tensor import TensorId
from qcomp.quant.qparams import QParams, dequantize, quantize
from qcomp.quant.rounding import NOTHING, Rounding
from qcomp.recipes.judge import with_quantized

TEXT = """graph @net(%x: f32[1,8,8,4], %z: f32[1,8,8,4]) {
  %w = constant : f32[4,3,3,4]
  %v = constant : f32[4,1,1,4]
  %b = constant : f32[4]
  %stem = conv2d(%x, %w, %b) {padding=(1, 1, 1, 1)} : f32[1,8,8,4]
  %silu = unary(%stem) {function=silu, alpha=1.0, beta=0.0} : f32[1,8,8,4]
  %left = conv2d(%silu, %v, %b) : f32[1,8,8,4]
  %right = conv2d(%silu, %w, %b) {padding=(1, 1, 1, 1)} : f32[1,8,8,4]
  %sum = add(%left, %right) : f32[1,8,8,4]
  %skip = add(%sum, %stem) : f32[1,8,8,4]
  %other = unary(%z) {function=tanh, alpha=1.0, beta=0.0} : f32[1,8,8,4]
  %joined = mul(%skip, %other) : f32[1,8,8,4]
  %head = conv2d(%joined, %v, %b) : f32[1,8,8,4]
  return y=%head, early=%sum, same=%z
}"""
SITES = ("x", "z", "stem", "silu", "left", "right", "sum", "skip", "other", "joined", "head")
BYTES, SIXTEEN = QParams(0.07, -9), QParams(0.0004, 0, -32768, 32767)


def constants() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {
        "w": random.normal(0, 0.2, (4, 3, 3, 4)).astype(np.float32),
        "v": random.normal(0, 0.5, (4, 1, 1, 4)).astype(np.float32),
        "b": random.normal(0, 0.2, 4).astype(np.float32),
    }


def network() -> Graph:
    return parse(TEXT, constants())


@pytest.fixture(scope="module")
def trials() -> Trials:
    graph = network()
    return Trials(graph, with_quantized(graph, dict.fromkeys(SITES, BYTES)), samples(), blocks=8)


def samples(count: int = 3) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(2)
    shape = (1, 8, 8, 4)
    return [{n: random.normal(size=shape).astype(np.float32) for n in "xz"} for _ in range(count)]


def whole(graph: Graph) -> list[Answers]:
    session = FloatSession(graph)
    return [session.run(sample) for sample in samples()]


def assert_same(got: list[Answers], expected: list[Answers], rtol: float = 1e-5) -> None:
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_allclose(a[name], b[name], rtol=rtol, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("count", [1, 4, 8, 100])
def test_blocks_have_every_op_once_and_read_what_was_given_before(count: int) -> None:
    graph = network()
    blocks = blocks_of(graph, count)
    assert 1 <= len(blocks) <= count
    assert len(blocks) >= min(count, 4)
    assert sum(len(block.ops) for block in blocks) == len(graph.ops())
    given = set(graph.inputs.values())
    for block in blocks:
        assert set(block.reads) <= given
        given |= set(block.gives)
    assert {name for block in blocks for name in block.outputs} == {"y", "early", "same"}


@pytest.mark.parametrize(("extent", "count"), [(8, 1), (200, 2), (2000, 8)])
def test_small_networks_are_cut_into_fewer_blocks(extent: int, count: int) -> None:
    """Where a call takes longer than what it runs, a trial of all blocks takes the most."""
    graph = parse(TEXT.replace("1,8,8,4", f"1,{extent},{extent},4"), constants())
    assert best_count(graph) == count


@pytest.mark.parametrize("q", [BYTES, SIXTEEN], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("sites", [("x",), ("stem", "silu"), ("sum",), ("z", "head"), SITES])
def test_a_trial_is_the_whole_network_with_these_rounded(
    trials: Trials, sites: tuple[TensorId, ...], q: QParams
) -> None:
    got = trials.trial(dict.fromkeys(sites, Rounding.of(q)), 3)
    assert_same(got, whole(with_quantized(network(), dict.fromkeys(sites, q))))


def test_nothing_is_rounded_that_is_not_tried(trials: Trials) -> None:
    expected = whole(network())
    assert_same(trials.untouched, expected)
    assert_same(trials.trial(dict.fromkeys(SITES, NOTHING), 2), expected[:2])


def test_in_a_quantized_network_the_others_stay_rounded() -> None:
    graph = network()
    base = with_quantized(graph, dict.fromkeys(SITES, BYTES))
    trials = Trials(base, base, samples(), blocks=8)
    assert_same(trials.untouched, whole(base))
    finer = with_quantized(graph, {s: SIXTEEN if s == "stem" else BYTES for s in SITES})
    assert_same(trials.trial({"stem": Rounding.of(SIXTEEN)}, 3), whole(finer))


def test_each_channel_may_have_parameters_of_its_own(trials: Trials) -> None:
    one = Rounding.of(BYTES)
    scale = np.array([0.01, 0.02, 0.5, 0.07], np.float32)
    own = replace(one, scale=scale, low=np.repeat(one.low, 4), high=np.repeat(one.high, 4))
    got = trials.trial({"z": own}, 3)
    for answer, sample in zip(got, samples(), strict=True):
        np.testing.assert_array_equal(answer["same"], own(sample["z"]))


def test_tensors_that_are_not_rounded_anywhere_can_not_be_tried() -> None:
    graph = network()
    trials = Trials(graph, with_quantized(graph, {"x": BYTES}), samples())
    with pytest.raises(KeyError, match="head"):
        trials.trial({"head": Rounding.of(BYTES)}, 1)


@pytest.mark.parametrize("q", [BYTES, SIXTEEN, QParams(0.3, 127), QParams(1e-3, -128)], ids=str)
def test_rounding_in_floats_is_that_of_quantize_and_dequantize(q: QParams) -> None:
    x = np.random.default_rng(4).normal(0, 20, 10000).astype(np.float32)
    expected = dequantize(quantize(x, q), q)
    np.testing.assert_array_equal(Rounding.of(q)(x), expected)
    np.testing.assert_array_equal(NOTHING(x), x)


def test_a_network_of_one_scalar_is_tried_too() -> None:
    graph = parse(
        "graph @net(%x: f32[]) {\n  %y = unary(%x) {function=exp, alpha=0.0, beta=0.0} : f32[]\n"
        "  return y=%y\n}"
    )
    rounded = with_quantized(graph, {"y": BYTES})
    assert any(isinstance(op, Quantize) for op in rounded.ops())
    (answer,) = Trials(graph, rounded, [{"x": np.array(0.5, np.float32)}]).trial(
        {"y": Rounding.of(BYTES)}, 1
    )
    assert answer["y"] == Rounding.of(BYTES)(np.exp(np.float32(0.5)))


def test_an_output_that_is_a_constant_is_the_same_in_every_trial() -> None:
    graph = parse(
        """graph @g(%x: f32[3]) {
          %y = add(%x, %x) : f32[3]
          return y=%y
        }"""
    )
    graph.outputs["k"] = graph.add_constant("k", np.ones(2, np.float32))
    rounded = with_quantized(graph, {"x": QParams(1.0)})
    trials = Trials(graph, rounded, [{"x": np.float32([0.2, 1.4, 3.0])}])
    (found,) = trials.trial({"x": Rounding.of(QParams(1.0))}, 1)
    assert found["y"].tolist() == [0.0, 2.0, 6.0]
    assert found["k"].tolist() == trials.untouched[0]["k"].tolist() == [1.0, 1.0]
