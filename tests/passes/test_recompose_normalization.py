"""Normalisations that exporters write out in parts become one op each."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Normalize
from qcomp.ir.parse import parse
from qcomp.passes.base import run_pass
from qcomp.passes.canonicalize_layout import CanonicalizeLayout
from qcomp.passes.fold_constants import FoldConstants
from qcomp.passes.recompose_normalization import RecomposeNormalization
from qcomp.quant.qparams import QParams

X, ROWS = "f32[2,3,8]", "f32[2,3,1]"
RANDOM = np.random.default_rng(1)
CONSTANTS = {
    "gamma": RANDOM.uniform(0.5, 1.5, 8),
    "beta": RANDOM.normal(size=8),
    "c": RANDOM.uniform(0.5, 1.5, (3, 8)),
    "one": np.array([1.0]),
    "eps": np.array([1e-3]),
    "grouped": RANDOM.uniform(0.5, 1.5, (6, 1, 1)),
    "shift": RANDOM.normal(size=(6, 1, 1)),
    "two": RANDOM.uniform(0.5, 1.5, (2, 1)),
}
CONSTANTS = {name: data.astype(np.float32) for name, data in CONSTANTS.items()}


def mean(x: str, y: str, kind: str = "mean", keepdims: bool = True) -> str:
    type = ROWS if keepdims else "f32[2,3]"
    return f"%{y} = reduce(%{x}) {{kind={kind}, axes=(2,), keepdims={keepdims}}} : {type}"


def unary(function: str, x: str, y: str, type: str = ROWS, **attributes: float) -> str:
    texts = "".join(f", {k}={v}" for k, v in attributes.items())
    return f"%{y} = unary(%{x}) {{function={function}{texts}}} : {type}"


MEAN, DEVIATION = mean("x", "m"), f"%d = sub(%x, %m) : {X}"
SQUARE, POWER = f"%s = mul(%d, %d) : {X}", mean("s", "p")
ADDED = unary("affine", "p", "e", alpha=1.0, beta=1e-3)
ROOT = unary("sqrt", "e", "r")
CENTERED = (MEAN, DEVIATION, SQUARE, POWER, ADDED)
DIVIDED = f"%y = div(%d, %r) : {X}"
SCALED = (f"%z = div(%d, %r) : {X}", f"%g = mul(%z, %gamma) : {X}", f"%y = add(%g, %beta) : {X}")
MOMENTS = (
    MEAN, f"%q = mul(%x, %x) : {X}", mean("q", "p2"), f"%mm = mul(%m, %m) : {ROWS}",
    f"%p = sub(%p2, %mm) : {ROWS}", DEVIATION, ADDED, ROOT,
)  # fmt: skip
OVER = f"%o = mul(%i, %gamma) : {X}"
BATCH = (
    f"%a = mul(%x, %o) : {X}", f"%b = mul(%m, %o) : {X}", f"%h = sub(%beta, %b) : {X}",
    f"%y = add(%a, %h) : {X}",
)  # fmt: skip
RMS = tuple(line.replace("%d", "%x") for line in (SQUARE, POWER, ADDED, ROOT))
OF_X = DIVIDED.replace("%d", "%x")
LENGTH = (f"%s = mul(%x, %x) : {X}", mean("s", "p", "sum"), unary("sqrt", "p", "r"))
BOUND = f"%l = clamp(%r) {{clamp=ClampRange(low=0.1, high=inf)}} : {ROWS}"

LAYER = {
    "layer": (*CENTERED, ROOT, *SCALED),
    "power of two": (
        MEAN, DEVIATION, unary("pow", "d", "s", X, alpha=2.0), POWER, ADDED, ROOT, *SCALED
    ),
    "the deviation twice": (
        *(line.replace("%d", "%k") for line in CENTERED), DEVIATION, ROOT, DIVIDED
    ),
    "everything twice": (
        MEAN, DEVIATION, mean("x", "m2"), f"%k = sub(%x, %m2) : {X}", f"%s = mul(%d, %k) : {X}",
        POWER, ADDED, ROOT, DIVIDED,
    ),
    "a root as a power": (*CENTERED, unary("pow", "e", "r", alpha=0.5), DIVIDED),
    "an inverse root": (
        *CENTERED, unary("pow", "e", "i", alpha=-0.5), f"%y = mul(%i, %d) : {X}"
    ),
    "a reciprocal": (
        *CENTERED, ROOT, unary("reciprocal", "r", "i"), f"%y = mul(%d, %i) : {X}"
    ),
    "one over it": (*CENTERED, ROOT, f"%i = div(%one, %r) : {ROWS}", f"%y = mul(%d, %i) : {X}"),
    "gamma over it": (*CENTERED, ROOT, f"%i = div(%gamma, %r) : {X}", f"%y = mul(%d, %i) : {X}"),
    "epsilon of one element": (
        *CENTERED[:-1], f"%e = add(%p, %eps) : {ROWS}", ROOT, *SCALED
    ),
    "sums divided": (
        mean("x", "t", "sum"), unary("affine", "t", "m", alpha=0.125, beta=0.0), DEVIATION, SQUARE,
        mean("s", "u", "sum"), unary("affine", "u", "p", alpha=0.125, beta=0.0), ADDED, ROOT,
        DIVIDED,
    ),
    "a variance of one less": (
        MEAN, DEVIATION, SQUARE, mean("s", "u", "sum"),
        unary("affine", "u", "p", alpha=1 / 7, beta=0.0), ADDED, ROOT, *SCALED,
    ),
    "a difference of moments": (*MOMENTS, DIVIDED),
    "axes dropped and put back": (
        mean("x", "t", keepdims=False), f"%m = reshape(%t) {{shape=(2, 3, 1)}} : {ROWS}", DEVIATION,
        SQUARE, mean("s", "u", keepdims=False), unary("affine", "u", "v", "f32[2,3]", beta=1e-3),
        unary("sqrt", "v", "w", "f32[2,3]"), f"%r = reshape(%w) {{shape=(2, 3, 1)}} : {ROWS}",
        f"%k = broadcast_to(%r) {{shape=(2, 3, 8)}} : {X}", f"%y = div(%d, %k) : {X}",
    ),
    "as a batch normalisation": (
        *CENTERED, ROOT, unary("reciprocal", "r", "i"), OVER, *BATCH
    ),
    "as one with moments": (*MOMENTS, unary("reciprocal", "r", "i"), OVER, *BATCH),
    "as one without parameters": (
        *CENTERED, unary("pow", "e", "i", alpha=-0.5), f"%a = mul(%x, %i) : {X}",
        f"%b = mul(%m, %i) : {ROWS}", f"%y = sub(%a, %b) : {X}",
    ),
    "as one with a number added": (
        *CENTERED, unary("pow", "e", "i", alpha=-0.5), f"%a = mul(%x, %i) : {X}",
        f"%b = mul(%m, %i) : {ROWS}", unary("affine", "b", "h", alpha=-1.0, beta=0.5),
        f"%y = add(%h, %a) : {X}",
    ),
}  # fmt: skip
OTHERS = {
    "root mean square": (*RMS, OF_X),
    "with a reciprocal": (*RMS, unary("reciprocal", "r", "i"), f"%y = mul(%x, %i) : {X}"),
    "length": (*LENGTH, OF_X),
    "length with a bound": (*LENGTH, BOUND, OF_X.replace("%r", "%l")),
    "length with a bound, scaled": (
        *LENGTH, unary("affine", "r", "k", alpha=0.3, beta=0.0), BOUND.replace("%r", "%k"),
        OF_X.replace("%r", "%l"),
    ),
    "a bound under the root": (
        *LENGTH[:-1], f"%e = clamp(%p) {{clamp=ClampRange(low=0.2, high=inf)}} : {ROWS}", ROOT,
        OF_X,
    ),
    "a maximum": (*LENGTH, f"%l = maximum(%r, %eps) : {ROWS}", OF_X.replace("%r", "%l")),
}  # fmt: skip
DECLINED = {
    "the values over the deviation": ((*CENTERED, ROOT, OF_X), "is not what was squared"),
    "deviations over the length": (
        (MEAN, DEVIATION, *RMS, DIVIDED), "is not what was squared"
    ),
    "values over a root of moments": (
        (*MOMENTS[:5], ADDED, ROOT, OF_X), "is not a deviation from the mean"
    ),
    "a negative number": (
        (*CENTERED[:-1], unary("affine", "p", "e", alpha=1.0, beta=-1e-3), ROOT, DIVIDED),
        "-0.001 under the root is negative",
    ),
}  # fmt: skip
SILENT = {
    "no root": (*CENTERED, DIVIDED.replace("%r", "%e")),
    "a root plus a number": (
        *CENTERED[:-1], unary("sqrt", "p", "e"), unary("affine", "e", "r", alpha=1.0, beta=0.1),
        DIVIDED,
    ),
    "the largest square": (*LENGTH[:1], mean("s", "p", "max"), LENGTH[2], OF_X),
}  # fmt: skip


def network(lines: tuple[str, ...], x: str = X) -> Graph:
    used = [name for name in CONSTANTS if any(f"%{name}" in line for line in lines)]
    shapes = {n: ",".join(map(str, CONSTANTS[n].shape)) for n in used}
    constants = [f"%{n} = constant : f32[{shapes[n]}]" for n in used]
    text = "\n".join([f"graph @g(%x: {x}) {{", *constants, *lines, "return y=%y", "}"])
    return parse(text, {n: CONSTANTS[n] for n in used})


def recomposed(before: Graph) -> Graph:
    """One normalisation of the same meaning; the pass does nothing more to it."""
    after, _ = run_pass(before, RecomposeNormalization())
    shape = before.type("x").shape
    x = RANDOM.normal(1.0, 2.0, shape).astype(np.float32)
    assert_allclose(
        evaluate(after, {"x": x})["y"], evaluate(before, {"x": x})["y"], rtol=2e-5, atol=1e-6
    )
    again, _ = run_pass(after, RecomposeNormalization())
    assert str(again) == str(after)
    return after


@pytest.mark.parametrize("lines", LAYER.values(), ids=LAYER)
@pytest.mark.parametrize("folded", [False, True])
def test_layer_normalisations(lines: tuple[str, ...], folded: bool) -> None:
    graph = network(lines)
    graph = run_pass(graph, FoldConstants())[0] if folded else graph
    (op,) = recomposed(graph).ops()
    assert isinstance(op, Normalize)
    assert op.centered
    assert (op.x, op.axes) == ("x", (2,))


@pytest.mark.parametrize("lines", OTHERS.values(), ids=OTHERS)
def test_normalisations_without_a_mean(lines: tuple[str, ...]) -> None:
    (op,) = recomposed(network(lines)).ops()
    assert isinstance(op, Normalize)
    assert not op.centered
    assert op.axes == (2,)


def test_deviations_that_are_squared_themselves_have_a_mean_of_zero() -> None:
    lines = (MEAN, DEVIATION, SQUARE, mean("s", "p", "sum"), unary("sqrt", "p", "r"), DIVIDED)
    (op,) = recomposed(network(lines)).ops()
    assert isinstance(op, Normalize)
    assert op.centered


@pytest.mark.parametrize(("lines", "reason"), DECLINED.values(), ids=DECLINED)
def test_what_divides_by_another_root_stays(lines: tuple[str, ...], reason: str) -> None:
    before = network(lines)
    after, log = run_pass(before, RecomposeNormalization())
    assert str(after) == str(before)
    assert reason in log.text


@pytest.mark.parametrize("lines", SILENT.values(), ids=SILENT)
def test_anything_else_stays(lines: tuple[str, ...]) -> None:
    before = network(lines)
    after, _ = run_pass(before, RecomposeNormalization())
    assert str(after) == str(before)


def test_means_that_broadcast_along_other_axes_stay() -> None:
    """Of a square matrix the means of rows are as many as columns."""
    lines = (
        "%s = mul(%x, %x) : f32[4,4]",
        "%p = reduce(%s) {kind=mean, axes=(1,), keepdims=False} : f32[4]",
        "%r = unary(%p) {function=sqrt} : f32[4]",
        "%y = div(%x, %r) : f32[4,4]",
    )
    before = network(lines, "f32[4,4]")
    after, log = run_pass(before, RecomposeNormalization())
    assert str(after) == str(before)
    assert "does not broadcast to %x as its means over (1,) do" in log.text
    (op,) = recomposed(
        network((lines[0], lines[1].replace("(1,)", "(0,)"), *lines[2:]), "f32[4,4]")
    ).ops()
    assert isinstance(op, Normalize)


def test_parameters_as_many_as_values_stay_behind() -> None:
    after = recomposed(
        network((*CENTERED, ROOT, f"%z = div(%d, %r) : {X}", f"%y = mul(%z, %c) : {X}"))
    )
    assert [op.mnemonic for op in after.ops()] == ["normalize", "mul"]


def test_a_value_that_is_read_elsewhere_stays() -> None:
    lines = (*CENTERED, ROOT, *SCALED[:-1], f"%b = add(%g, %beta) : {X}", f"%y = add(%b, %z) : {X}")
    after = recomposed(network(lines))
    assert [op.mnemonic for op in after.ops()] == ["normalize", "mul", "add", "add"]


IMAGE = "f32[2,6,4,5]"
GROUPED = "%n = normalize(%v, %two, %two) {axes=(2,), centered=True, epsilon=0.001} : f32[2,2,60]"
BEHIND = (
    f"%w = reshape(%n) {{shape=(2, 6, 4, 5)}} : {IMAGE}",
    f"%g = mul(%w, %grouped) : {IMAGE}",
    f"%b = sub(%g, %shift) : {IMAGE}",
    f"%y = clamp(%b) {{clamp=ClampRange(low=0.0, high=inf)}} : {IMAGE}",
)


def test_groups_of_channels_become_axes_and_take_the_parameters_of_channels() -> None:
    before = network(("%v = reshape(%x) {shape=(2, 2, 60)} : f32[2,2,60]", GROUPED, *BEHIND), IMAGE)
    after = recomposed(before)
    assert [op.mnemonic for op in after.ops()] == ["reshape", "normalize", "reshape", "clamp"]
    op = after.ops()[1]
    assert isinstance(op, Normalize)
    assert (after.type(op.x).shape, op.axes) == ((2, 2, 3, 4, 5), (2, 3, 4))
    assert after.type(op.gamma).shape == (1, 2, 3, 1, 1)


def test_groups_of_channels_that_are_last_need_no_transposes() -> None:
    first = (
        "%t = transpose(%x) {permutation=(0, 3, 1, 2)} : f32[2,6,4,5]",
        "%v = reshape(%t) {shape=(2, 2, 60)} : f32[2,2,60]",
        GROUPED,
        *BEHIND[:-1],
        "%y = transpose(%b) {permutation=(0, 2, 3, 1)} : f32[2,4,5,6]",
    )
    after = recomposed(network(first, "f32[2,4,5,6]"))
    plain, _ = run_pass(after, CanonicalizeLayout())
    assert [op.mnemonic for op in plain.ops()] == ["reshape", "normalize", "reshape"]
    x = RANDOM.normal(size=(2, 4, 5, 6)).astype(np.float32)
    assert_allclose(evaluate(plain, {"x": x})["y"], evaluate(after, {"x": x})["y"], rtol=1e-5)


@pytest.mark.parametrize("wrong", [4, 6])
def test_reshapes_that_tear_groups_apart_stay(wrong: int) -> None:
    lines = (
        f"%v = reshape(%x) {{shape=(2, {wrong}, {120 // wrong})}} : f32[2,{wrong},{120 // wrong}]",
        GROUPED.replace("%two", "%one").replace("[2,2,60]", f"[2,{wrong},{120 // wrong}]"),
        "%w = reshape(%n) {shape=(2, 5, 4, 6)} : f32[2,5,4,6]",
        "%y = mul(%w, %one) : f32[2,5,4,6]",
    )
    before = network(lines, "f32[2,5,4,6]")
    after, _ = run_pass(before, RecomposeNormalization())
    assert [op.mnemonic for op in after.ops()][-2:] == ["reshape", "mul"]


def test_the_order_of_forms_does_not_matter() -> None:
    """A sum of products is found whichever comes first."""
    for a, b in itertools.permutations(("%a", "%h")):
        lines = (*CENTERED, ROOT, unary("reciprocal", "r", "i"), OVER, *BATCH[:-1])
        after = recomposed(network((*lines, f"%y = add({a}, {b}) : {X}")))
        assert [op.mnemonic for op in after.ops()] == ["normalize"]


@pytest.mark.parametrize(
    ("rounded", "expected"),
    [
        ("x", ["normalize"]),
        ("y", ["normalize"]),
        ("z", ["normalize", "mul", "add"]),
        ("p", ["reduce", "sub", "mul", "reduce", "unary", "unary", "div", "mul", "add"]),
    ],
)
def test_parts_that_the_model_rounds_stay_where_roundings_count(
    rounded: str, expected: list[str]
) -> None:
    before = network((*CENTERED, ROOT, *SCALED))
    before.update_tensor(replace(before.tensor(rounded), qparams=QParams(0.1)))
    after, log = run_pass(before, RecomposeNormalization(rounds=True))
    assert [op.mnemonic for op in after.ops()] == expected
    assert ("of its own" in log.text or "of their own" in log.text) == (rounded in "zp")
    anyway, _ = run_pass(before, RecomposeNormalization())
    assert [op.mnemonic for op in anyway.ops()] == ["normalize"]
