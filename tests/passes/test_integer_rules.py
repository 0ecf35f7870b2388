"""Every rule of the integer lowering is within one step of the QDQ form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lowered_graphs import PLAIN, feed_of, lowered, sample, steps_apart
from numpy.typing import NDArray

from qcomp.ir import DType, Form, Graph, TensorType, parse, verify
from qcomp.ir import ops as o
from qcomp.ir.graph import constants_of
from qcomp.ir.ops import RELU, RELU6, ClampRange, Function, Op, Reduction
from qcomp.ir.tensor import TensorId
from qcomp.passes.base import run_pass
from qcomp.passes.certify_accumulators import CertifyAccumulators
from qcomp.passes.lib.integer_rules import RULES

Array = NDArray[Any]
Feed = Mapping[str, Array]
IMAGE = (2, 6, 5, 4)
DCR, ALIGN = o.BlockOrder.DCR, o.Coordinates.ALIGN_CORNERS


@dataclass(frozen=True)
class Case:
    """One float op: its type, attributes, shapes of activations, shapes of constants after them."""

    op: type[Op]
    attributes: Mapping[str, Any]
    activations: tuple[tuple[int, ...], ...] = (IMAGE,)
    constants: tuple[tuple[int, ...], ...] = ()
    positive: bool = False

    def __str__(self) -> str:
        values = [getattr(v, "value", v) for v in self.attributes.values()]
        shapes = [*self.activations, *self.constants][1:]
        return f"{self.op.mnemonic}-{values}-{shapes}".replace(" ", "")


def case(op: type[Op], *activations: tuple[int, ...], **attributes: Any) -> Case:
    return Case(op, attributes, activations or (IMAGE,))


CONV = ((7, 3, 2, 4), (7,))
CASES = [
    Case(o.Conv2d, {"stride": (2, 1), "padding": (1, 0, 1, 2)}, constants=CONV),
    Case(o.Conv2d, {"dilation": (1, 2), "clamp": RELU6}, constants=CONV),
    Case(o.Conv2d, {"groups": 2}, constants=((6, 3, 3, 2), (6,))),
    Case(o.Conv2d, {"groups": 4, "clamp": RELU}, constants=((4, 3, 3, 1), (4,))),
    Case(o.Dense, {}, constants=((9, 4), (9,))),
    Case(o.Dense, {"clamp": ClampRange(-0.25, 0.5)}, ((3, 8),), ((5, 8), (5,))),
    case(o.MatMul, (2, 3, 4), (4, 5)),
    case(o.Compare, IMAGE, IMAGE, relation=o.Relation.LESS),
    Case(o.Compare, {"relation": o.Relation.EQUAL}, constants=((4,),)),
    Case(o.Compare, {"relation": o.Relation.LESS_OR_EQUAL}, constants=((4,),)),
    Case(o.Select, {}, (IMAGE, IMAGE), ((1,),)),
    Case(o.MatMul, {}, ((2, 3, 4),), ((4, 5),)),
    *(
        Case(op, {"clamp": clamp}, (IMAGE, other))
        for op in (o.Add, o.Sub, o.Mul, o.Minimum, o.Maximum)
        for clamp, other in [(o.NO_CLAMP, IMAGE), (RELU, (5, 1)), (ClampRange(-0.1, 0.3), IMAGE)]
    ),
    *(
        Case(op, {}, (IMAGE,), (other,))
        for op in (o.Add, o.Sub, o.Mul, o.Minimum, o.Maximum)
        for other in [(4,), ()]
    ),
    Case(o.LogPower, {"added": 0.0, "least": 1e-3}, (IMAGE, IMAGE)),
    Case(o.LogPower, {"added": 0.25, "least": 0.25}, (IMAGE, IMAGE)),
    Case(o.Div, {}, (IMAGE, IMAGE), positive=True),
    Case(o.Div, {}, (IMAGE,), ((4,),), positive=True),
    *(Case(o.Unary, {"function": f}) for f in Function),
    Case(o.Unary, {"function": Function.AFFINE, "alpha": -0.5, "beta": 0.2}),
    Case(o.Unary, {"function": Function.POW, "alpha": 2.0}),
    Case(o.Clamp, {"clamp": ClampRange(-0.3, 0.7)}),
    Case(o.PRelu, {}, constants=((4,),)),
    Case(o.PRelu, {}, constants=((1,),)),
    case(o.AveragePool2d, kernel=(3, 2), stride=(2, 1), padding=(1, 1, 1, 0)),
    case(o.AveragePool2d, kernel=(3, 3), padding=(1, 1, 1, 1), count_include_pad=True),
    *(
        case(o.Reduce, kind=kind, axes=axes, keepdims=keepdims)
        for kind in Reduction
        for axes, keepdims in [((1, 2), True), ((0, 3), False)]
    ),
    case(o.Softmax, (3, 10), axis=1),
    case(o.Softmax, axis=1),
    case(o.LogSoftmax, (3, 10), axis=1),
    case(o.MaxPool2d, kernel=(3, 2), stride=(1, 2), padding=(1, 0, 1, 1)),
    case(o.Reshape, shape=(4, 60)),
    case(o.Transpose, permutation=(3, 1, 0, 2)),
    case(o.Concat, IMAGE, (2, 6, 5, 3), axis=3),
    Case(o.Concat, {"axis": 0}, (IMAGE,), ((1, 6, 5, 4),)),
    case(o.Slice, starts=(0, 5, 0, 1), sizes=(2, 3, 5, 2), steps=(1, -2, 1, 2)),
    case(o.Pad, before=(0, 1, 2, 0), after=(0, 0, 1, 1), value=0.25),
    case(o.Pad, before=(0, 1, 2, 0), after=(0, 0, 1, 1), mode=o.PadMode.REFLECT),
    case(o.BroadcastTo, (1, 4), shape=(3, 5, 4)),
    case(o.Tile, (2, 3), repeats=(2, 3)),
    case(o.Resize2d, size=(12, 7), scale=(2.0, 7 / 5)),
    case(o.Resize2d, size=(9, 9), scale=(1.5, 9 / 5), mode=o.ResizeMode.LINEAR, coordinates=ALIGN),
    case(o.DepthToSpace, block=2, order=DCR),
    case(o.SpaceToDepth, (1, 4, 6, 3), block=2),
    case(o.ZeroStuff, stride=(2, 3)),
    Case(o.Gather, {"axis": 3}, constants=((6,),)),
]


def float_graph(case: Case, random: np.random.Generator, spread: float, shift: float) -> Graph:
    graph = Graph("g")
    inputs: list[TensorId] = [
        graph.add_input(f"x{i}", TensorType(DType.F32, shape))
        for i, shape in enumerate(case.activations)
    ]
    for i, shape in enumerate(case.constants):
        data = sample(random, shape, spread, shift, case.positive)
        if case.op is o.Gather:
            data = random.integers(0, 4, shape)
        inputs.append(graph.add_constant(f"k{i}", data))
    graph.outputs["y"] = graph.add_op(case.op(inputs=tuple(inputs), output="y", **case.attributes))
    return graph


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.sweep(12)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([2.0**-8, 0.3, 1.0, 5.0]),
    shift=st.sampled_from([-2.0, 0.0, 0.7]),
    snap=st.booleans(),
)
def test_integers_are_within_one_step_of_the_qdq_form(
    case: Case, seed: int, spread: float, shift: float, snap: bool
) -> None:
    random = np.random.default_rng(seed)
    graph = float_graph(case, random, spread, shift)
    types = {name: graph.type(id) for name, id in graph.inputs.items()}
    feed = {n: sample(random, t.shape, spread, shift, case.positive) for n, t in types.items()}
    qdq, integer, _ = lowered(graph, feed, snap=snap)
    assert steps_apart(qdq, integer, feed) <= 1.0


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.sweep(12)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([2.0**-8, 0.3, 1.0, 5.0]),
    shift=st.sampled_from([-2.0, 0.0, 0.7]),
    wide=st.sets(st.sampled_from(["x0", "x1", "y"]), min_size=1),
)
def test_any_mix_of_widths_has_an_integer_form_that_is_certified_and_close(
    case: Case, seed: int, spread: float, shift: float, wide: set[str]
) -> None:
    """Within a step; interpolated functions, whose tables are off by a step, within two."""
    random = np.random.default_rng(seed)
    graph = float_graph(case, random, spread, shift)
    types = {name: graph.type(id) for name, id in graph.inputs.items()}
    feed = {n: sample(random, t.shape, spread, shift, case.positive) for n, t in types.items()}
    config = replace(PLAIN, overrides={id: {"activation_bits": 16} for id in sorted(wide)})
    qdq, integer, _ = lowered(graph, feed, config=config)
    run_pass(integer, CertifyAccumulators())
    assert str(parse(str(integer), dict(constants_of(integer)))) == str(integer)
    result = integer.type("y.q" if "y.q" in integer else integer.outputs["y"]).dtype
    assert result is (DType.I16 if "y" in wide or _shares_width(case, wide) else DType.I8)
    interpolated = any(isinstance(op, o.Interpolate) for op in integer.ops())
    apart = 2.0 if interpolated and result is DType.I16 else 1.0
    assert steps_apart(qdq, integer, feed) <= apart


def _shares_width(case: Case, wide: set[str]) -> bool:
    """Whether an operand of 16 bits makes the result one of 16 bits."""
    kind = case.attributes.get("kind")
    copies = issubclass(case.op, o.Movement | o.MaxPool2d | o.Minimum | o.Maximum | o.Select)
    first = 1 if case.op is o.Select else 0  # its condition is not copied
    operands = {f"x{i}" for i in range(first, len(case.activations))}
    return (copies or kind in (Reduction.MAX, Reduction.MIN)) and bool(operands & wide)


@pytest.mark.parametrize(
    "op",
    [o.MaxPool2d, o.Reshape, o.Transpose, o.Concat, o.Slice, o.Tile, o.Minimum, o.Maximum],
)
def test_copies_are_exact(op: type[Op]) -> None:
    for case in (c for c in CASES if c.op is op and not c.constants):
        random = np.random.default_rng(3)
        graph = float_graph(case, random, 1.0, 0.0)
        feed = {n: sample(random, graph.type(t).shape) for n, t in graph.inputs.items()}
        qdq, integer, _ = lowered(graph, feed)
        assert steps_apart(qdq, integer, feed) == 0.0


def test_every_rule_has_a_case() -> None:
    elsewhere = {
        o.Embedding,  # of whole numbers: tests/targets/test_cpu_embedding.py
        o.Normalize,  # has bounds of its own: tests/passes/test_normalization_rule.py
        o.Attention,  # its weights have few bits: tests/passes/test_attention_rule.py
        *(o.Gru, o.Lstm, o.Rnn),  # tests/passes/test_recurrent_rules.py
        *(o.AbsMax, o.ScaleDown, o.ScaleUp),  # of one pass: tests/targets/test_cpu_dynamic.py
    }
    assert {c.op for c in CASES} | elsewhere == set(RULES)


def test_the_result_is_in_integer_form() -> None:
    for case in CASES:
        graph = float_graph(case, np.random.default_rng(0), 1.0, 0.0)
        feed = {n: np.abs(a) + 0.1 for n, a in feed_of(graph).items()}
        verify(lowered(graph, feed)[1], Form.INTEGER)
