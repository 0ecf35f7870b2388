"""Groups of tensors between which integers are copied have one scale."""

from __future__ import annotations

import pytest

from qcomp.config import QuantizationConfig
from qcomp.errors import PassError
from qcomp.ir import Graph, parse
from qcomp.ir.ops import Reduce, Reduction
from qcomp.passes.lib.same_scale import (
    Assignment,
    activation_bits,
    assign_qparams,
    range_units,
)
from qcomp.quant.qparams import SOFTMAX, SOFTMAX_16, QParams, softmax_qparams


def assigned(text: str, *, symmetric: bool = False) -> Assignment:
    return assign_qparams(
        parse(text), QuantizationConfig(activation_bits=8, symmetric_activations=symmetric)
    )


def covering(low: float, high: float) -> QParams:
    return QParams.from_range(low, high)


def test_unrelated_tensors_have_their_own_scales() -> None:
    a = assigned(
        """graph @g(%x: f32[4] range=(0.0, 1.0)) {
          %y = add(%x, %x) : f32[4] range=(-2.0, 3.0)
          return y=%y
        }"""
    )
    assert a.own == a.group == {"x": covering(0.0, 1.0), "y": covering(-2.0, 3.0)}


@pytest.mark.parametrize(
    "op",
    [
        "reshape(%x) {shape=(4, 1, 1, 1)} : f32[4,1,1,1]",
        "max_pool2d(%x) {kernel=(1, 1)} : f32[1,2,2,1]",
        "reduce(%x) {kind=max, axes=(3,)} : f32[1,2,2,1]",
        "minimum(%x, %k) : f32[1,2,2,1]",
        "concat(%x, %k) {axis=0} : f32[2,2,2,1]",
        "pad(%x) {before=(0, 1, 1, 0), after=(0, 0, 0, 0)} : f32[1,3,3,1]",
    ],
)
def test_what_copies_integers_shares_the_union_of_the_ranges(op: str) -> None:
    a = assigned(
        f"""graph @g(%x: f32[1,2,2,1] range=(-1.0, 2.0)) {{
          %k = constant : f32[1,2,2,1]
          %y = {op} range=(-0.5, 5.0)
          return y=%y
        }}"""
    )
    assert a.own == a.group == dict.fromkeys("xy", covering(-1.0, 5.0))


def test_ties_join_transitively_across_branches() -> None:
    a = assigned(
        """graph @g(%a: f32[2] range=(0.0, 1.0), %b: f32[2] range=(-3.0, 0.0)) {
          %c = concat(%a, %b) {axis=0} : f32[4] range=(-2.0, 1.0)
          %d = reshape(%b) {shape=(1, 2)} : f32[1,2] range=(-3.0, 7.0)
          %e = add(%d, %d) : f32[1,2] range=(-6.0, 6.0)
          return c=%c, e=%e
        }"""
    )
    assert {t: a.group[t] for t in "abcd"} == dict.fromkeys("abcd", covering(-3.0, 7.0))
    assert a.group["e"] == covering(-6.0, 6.0)


def test_sums_and_means_do_not_tie() -> None:
    a = assigned(
        """graph @g(%x: f32[4] range=(0.0, 1.0)) {
          %y = reduce(%x) {kind=mean, axes=(0,)} : f32[1] range=(0.0, 0.5)
          return y=%y
        }"""
    )
    assert a.own["x"] != a.own["y"]


def test_symmetric_scales_have_the_zero_point_zero() -> None:
    a = assigned(
        "graph @g(%x: f32[4] range=(-1.0, 3.0)) {\n  return x=%x\n}",
        symmetric=True,
    )
    assert a.own["x"] == QParams.from_range(-3.0, 3.0, symmetric=True)
    assert a.own["x"].zero_point == 0


@pytest.mark.parametrize(
    ("largest", "finer"), [(1.0, 0), (0.51, 0), (0.5, 1), (0.26, 1), (0.1, 3), (0.0, 5), (1e-9, 5)]
)
def test_a_softmax_that_is_an_output_has_the_finest_steps_that_reach(
    largest: float, finer: int
) -> None:
    a = assigned(
        f"""graph @g(%x: f32[4] range=(-1.0, 3.0)) {{
          %p = softmax(%x) {{axis=0}} : f32[4] range=(0.0, {largest})
          return p=%p
        }}"""
    )
    assert a.own["p"] == a.group["p"] == softmax_qparams(8, finer)
    assert a.own["p"].range[1] + a.own["p"].scale >= largest


def test_a_softmax_inside_is_pinned_and_a_log_softmax_follows_its_range() -> None:
    a = assigned(
        """graph @g(%x: f32[4] range=(-1.0, 3.0)) {
          %p = softmax(%x) {axis=0} : f32[4] range=(0.0, 0.4)
          %l = log_softmax(%x) {axis=0} : f32[4] range=(-90.0, 0.0)
          %y = mul(%p, %l) : f32[4] range=(-9.0, 0.0)
          return l=%l, y=%y
        }"""
    )
    assert a.own["p"] == SOFTMAX
    assert a.own["l"] == covering(-90.0, 0.0)
    assert a.own["l"].zero_point == 127


JOINED = """graph @g(%x: f32[4] range=(-1.0, 3.0), %z: f32[4] range=(0.0, {high})) {{
  %p = softmax(%x) {{axis=0}} : f32[4] range=(0.0, 0.4)
  %y = concat(%p, %z) {{axis=0}} : f32[8] range=(0.0, {high})
  return y=%y
}}"""


def test_a_group_that_fits_a_pinned_scale_takes_it() -> None:
    a = assigned(JOINED.format(high=1.0))
    assert {a.own[t] for t in "pzy"} == {a.group[t] for t in "pzy"} == {SOFTMAX}


def test_a_pinned_tensor_keeps_its_scale_in_a_group_that_does_not_fit() -> None:
    a = assigned(JOINED.format(high=4.0))
    assert a.own["p"] == SOFTMAX
    assert a.group["p"] == a.own["z"] == a.own["y"] == covering(0.0, 4.0)


def test_constants_and_integers_have_no_part_in_it() -> None:
    a = assigned(
        """graph @g(%x: f32[4] range=(-1.0, 3.0)) {
          %i = constant : i64[2]
          %y = gather(%x, %i) {axis=0} : f32[2] range=(0.0, 1.0)
          %best = argmax(%y) {axis=0} : i32[1]
          return best=%best
        }"""
    )
    assert set(a.own) == {"x", "y"}


def test_a_tensor_without_range_is_named() -> None:
    graph: Graph = parse("graph @g(%x: f32[4]) {\n  return x=%x\n}")
    with pytest.raises(PassError, match="%x has no range; annotate ranges first"):
        assign_qparams(graph, QuantizationConfig(activation_bits=8))


@pytest.mark.parametrize("kind", list(Reduction))
def test_of_the_reductions_only_the_extremes_copy_integers(kind: Reduction) -> None:
    op = Reduce(inputs=("x",), output="y", kind=kind, axes=(0,))
    assert op.copies_integers == (kind in (Reduction.MAX, Reduction.MIN))


# ------------------------------------------------------------------- 16 bits


def wide(text: str, *ids: str) -> Assignment:
    return assign_qparams(parse(text), wide_config(*ids))


def wide_config(*ids: str) -> QuantizationConfig:
    return QuantizationConfig(
        activation_bits=8, overrides={id: {"activation_bits": 16} for id in ids}
    )


def covering_16(low: float, high: float) -> QParams:
    return QParams.from_range(low, high, qmin=-32768, qmax=32767, symmetric=True)


GROUP = """graph @g(%x: f32[1,4] range=(-1.0, 3.0)) {
  %y = reshape(%x) {shape=(4,)} : f32[4] range=(-1.0, 3.0)
  %z = unary(%y) {function=sigmoid} : f32[4] range=(0.0, 1.0)
  return z=%z
}"""


@pytest.mark.parametrize("id", ["x", "y", "reshape"])
def test_a_group_is_as_wide_as_the_widest_of_its_members(id: str) -> None:
    assert wide(GROUP, id).own == {
        "x": covering_16(-1.0, 3.0), "y": covering_16(-1.0, 3.0), "z": covering(0.0, 1.0),
    }  # fmt: skip
    bits = activation_bits(parse(GROUP), wide_config(id))
    assert bits == {"x": 16, "y": 16, "z": 8}


def test_16_bits_are_symmetric_and_a_tensor_may_be_symmetric_alone() -> None:
    config = QuantizationConfig(activation_bits=8, overrides={"z": {"symmetric_activations": True}})
    own = assign_qparams(parse(GROUP), config).own
    assert own["x"] == covering(-1.0, 3.0)
    assert own["z"] == QParams.from_range(0.0, 1.0, symmetric=True)
    assert own["z"].zero_point == wide(GROUP, "z").own["z"].zero_point == 0


def test_the_pinned_scale_of_a_softmax_is_that_of_its_width() -> None:
    a = wide(
        """graph @g(%x: f32[1,4] range=(-1.0, 3.0)) {
          %y = softmax(%x) {axis=1} : f32[1,4] range=(0.0, 0.1)
          return y=%y
        }""",
        "softmax",
    )
    assert a.own == {"x": covering(-1.0, 3.0), "y": SOFTMAX_16}


def test_the_operand_of_a_function_and_its_result_are_one_unit() -> None:
    graph = parse(
        "graph @net(%x: f32[1,4]) {\n"
        "  %a = unary(%x) {function=silu, alpha=0.0, beta=0.0} : f32[1,4]\n"
        "  %b = reshape(%a) {shape=(4,)} : f32[4]\n"
        "  %c = softmax(%b) {axis=0} : f32[4]\n  return y=%c\n}"
    )
    assert range_units(graph) == [["x", "a", "b"], ["c"]]


SUM = """graph @g(%x: f32[4] range=({x}), %z: f32[4] range=({z})) {{
  %d = clamp(%x) {{clamp=ClampRange(low=0.0, high=inf)}} : f32[4] range=({d})
  %e = reshape(%d) {{shape=(4,)}} : f32[4] range=({d})
  %y = add(%e, %z) : f32[4] range=({y})
  return y=%y
}}"""


def test_what_is_0_on_all_data_takes_the_least_width_that_it_meets() -> None:
    """Its scale is near those of the ops that read it, whatever the others are."""
    a = assigned(SUM.format(x="-9.0, -1.0", d="0.0, 0.0", z="0.0, 1e-6", y="0.0, 2e-6"))
    assert a.own["d"] == a.own["e"] == covering(-5e-7, 5e-7)
    assert a.own["x"] == covering(-9.0, -1.0)


def test_where_all_is_0_every_scale_is_1() -> None:
    a = assigned(SUM.format(x="0.0, 0.0", d="0.0, 0.0", z="0.0, 0.0", y="0.0, 0.0"))
    assert {q.scale for q in a.own.values()} == {1.0}


def test_a_sum_that_cancels_is_as_wide_as_integers_can_express() -> None:
    a = assigned(SUM.format(x="-9.0, 4.0", d="0.0, 4.0", z="-4.0, 0.0", y="-1e-9, 3e-9"))
    assert a.own["y"].scale == pytest.approx(a.own["z"].scale * 2.0**-20)
    assert a.own["z"] == covering(-4.0, 0.0)


@pytest.mark.parametrize("scale", [1e-9, 1e-3])
def test_a_sum_that_is_a_little_smaller_keeps_its_range(scale: float) -> None:
    y = f"0.0, {scale / 1e3}"
    a = assigned(SUM.format(x=f"-9.0, {scale}", d=f"0.0, {scale}", z=f"{-scale}, 0.0", y=y))
    assert a.own["y"] == covering(0.0, scale / 1e3)
