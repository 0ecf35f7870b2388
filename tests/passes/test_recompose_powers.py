"""Logarithms of sums of squares become one op."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from qcomp.ir.evaluate import evaluate
from qcomp.ir.ops import LogPower
from qcomp.ir.parse import parse
from qcomp.passes.base import run_pass
from qcomp.passes.recompose_powers import RecomposePowers

A2, B2 = "%a2 = mul(%a, %a) : f32[9]", "%b2 = unary(%b) {function=pow, alpha=2.0} : f32[9]"
SUM = "%p = add(%a2, %b2) : f32[9]"
CLAMP = "%c = clamp(%p) {clamp=ClampRange(low=0.01, high=inf)} : f32[9]"
SHIFT = "%c = unary(%p) {function=affine, alpha=1.0, beta=0.5} : f32[9]"
LOG = "%l = unary(%c) {function=log} : f32[9]"
NETWORKS = {
    "a bound": ((A2, B2, SUM, CLAMP, LOG), (0.0, 0.01)),
    "a number added": ((A2, B2, SUM, SHIFT, LOG), (0.5, 0.5)),
    "both, the bound behind": (
        (A2, B2, SUM, SHIFT.replace("%c", "%s"), CLAMP.replace("%p", "%s"), LOG),
        (0.5, 0.5),
    ),
}
OTHERS = {
    "nothing below": (A2, B2, SUM, LOG.replace("%c", "%p")),
    "the bound before what is added": (
        A2, B2, SUM, CLAMP.replace("%c", "%s"), SHIFT.replace("%p", "%s"), LOG,
    ),
    "another reader of the sum": (A2, B2, SUM, CLAMP, LOG, "%q = mul(%p, %a) : f32[9]"),
    "a product of two": (A2.replace("%a)", "%b)"), B2, SUM, CLAMP, LOG),
    "another function": (A2, B2, SUM, CLAMP, LOG.replace("log", "sqrt")),
}  # fmt: skip


def network(lines: tuple[str, ...]) -> str:
    results = "l=%l, q=%q" if any(line.startswith("%q") for line in lines) else "l=%l"
    return "\n".join(["graph @g(%a: f32[9], %b: f32[9]) {", *lines, f"return {results}", "}"])


@pytest.mark.parametrize(("lines", "expected"), NETWORKS.values(), ids=NETWORKS)
def test_it_is_one_op_with_the_same_meaning(
    lines: tuple[str, ...], expected: tuple[float, float]
) -> None:
    graph = parse(network(lines))
    after, _ = run_pass(graph, RecomposePowers())
    (op,) = after.ops()
    assert isinstance(op, LogPower)
    assert (op.added, op.least) == expected
    feed = {n: np.linspace(-1, 1, 9).astype(np.float32) * k for n, k in (("a", 1), ("b", 0.01))}
    assert_allclose(evaluate(after, feed)["l"], evaluate(graph, feed)["l"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lines", OTHERS.values(), ids=OTHERS)
def test_anything_else_stays(lines: tuple[str, ...]) -> None:
    after, _ = run_pass(parse(network(lines)), RecomposePowers())
    assert not any(isinstance(op, LogPower) for op in after.ops())


def test_a_sum_that_nothing_keeps_above_zero_is_named() -> None:
    _, log = run_pass(parse(network(OTHERS["nothing below"])), RecomposePowers())
    assert log.text == "skip l: nothing keeps the sum of squares above zero"
