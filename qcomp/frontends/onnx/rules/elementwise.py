"""Activations, unary functions and broadcasting arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from qcomp.frontends.onnx.context import Node, Rule
from qcomp.frontends.onnx.rules.cast import INTEGERS, truncated
from qcomp.ir.ops import (
    NO_CLAMP,
    RELU,
    Add,
    Binary,
    Clamp,
    ClampRange,
    Div,
    Function,
    Maximum,
    Minimum,
    Mul,
    PRelu,
    Sub,
    Unary,
)
from qcomp.ir.tensor import TensorId

_F32_MAX = float(np.finfo(np.float32).max)


def unary(function: Function) -> Rule:
    """A function without parameters."""

    def rule(node: Node) -> None:
        node.add(Unary(inputs=(node.x(),), output=node.out(), function=function))

    return rule


def parametric(
    function: Function,
    alpha: float,
    beta: float = 0.0,
    alpha_name: str = "alpha",
    beta_name: str = "beta",
) -> Rule:
    """A function of two attributes, whose ONNX defaults are given."""

    def rule(node: Node) -> None:
        op = Unary(
            inputs=(node.x(),),
            output=node.out(),
            function=function,
            alpha=node.number(alpha_name, alpha),
            beta=node.number(beta_name, beta),
        )
        node.require(
            math.isfinite(op.alpha) and math.isfinite(op.beta), "its parameters are not finite"
        )
        node.add(op)

    return rule


def relu(node: Node) -> None:
    node.add(Clamp(inputs=(node.x(),), output=node.out(), clamp=RELU))


def clip(node: Node) -> None:
    """Bounds are attributes before opset 11, then inputs; f32's extremes mean no bound."""
    if any(node.has(i) and not node.is_constant(i) for i in (1, 2)):
        _clip_by_values(node)
        return
    if node.opset < 11:
        low, high = node.number("min", -_F32_MAX), node.number("max", _F32_MAX)
    else:
        low = node.scalar(1, "min") if node.has(1) else -math.inf
        high = node.scalar(2, "max") if node.has(2) else math.inf
    node.require(not (math.isnan(low) or math.isnan(high)), "a bound is NaN", "numbers")
    low = -math.inf if low <= -_F32_MAX else low
    high = math.inf if high >= _F32_MAX else high
    # Opset 13: where min > max, every element becomes max.
    _clamp(node, node.x(), ClampRange(min(low, high), high))


def _clip_by_values(node: Node) -> None:
    """min(max(x, low), high), of bounds that are computed."""
    bounds = [(i, cls) for i, cls in ((1, Maximum), (2, Minimum)) if node.has(i)]
    y = node.x()
    for place, (i, cls) in enumerate(bounds):
        last = place == len(bounds) - 1
        output = node.out() if last else node.part("above")
        y = node.add(cls(inputs=(y, node.x(i)), output=output))


def _clamp(node: Node, x: TensorId, clamp: ClampRange) -> None:
    node.require(clamp.low < math.inf and clamp.high > -math.inf, "every element becomes infinite")
    if clamp == NO_CLAMP:
        node.alias(x)
    else:
        node.add(Clamp(inputs=(x,), output=node.out(), clamp=clamp))


def gelu(node: Node) -> None:
    approximate = node.text("approximate", "none")
    node.require(approximate in ("none", "tanh"), f"approximate={approximate}", "none, tanh")
    unary(Function.GELU if approximate == "none" else Function.GELU_TANH)(node)


def prelu(node: Node) -> None:
    slope = node.weight(1, node.floats(1, "the slope"), "")
    node.add(PRelu(inputs=(node.x(), slope), output=node.out()))


def power(node: Node) -> None:
    """x ** exponent with one constant exponent."""
    exponent = node.constant(1, "the exponent")
    node.require(
        exponent.size >= 1 and bool((exponent == exponent.flat[0]).all()),
        f"the exponent has shape {list(exponent.shape)} and differing values",
        "one constant exponent",
    )
    shape = node.shape()
    node.require(
        np.broadcast_shapes(shape, exponent.shape) == shape,
        f"the exponent {list(exponent.shape)} does not broadcast to {list(shape)}",
    )
    alpha = float(exponent.flat[0])
    node.require(math.isfinite(alpha), "the exponent is not finite")
    node.add(Unary(inputs=(node.x(),), output=node.out(), function=Function.POW, alpha=alpha))


def binary(cls: type[Binary]) -> Rule:
    """A broadcasting op on two operands."""

    def rule(node: Node) -> None:
        node.add(cls(inputs=(node.x(0), node.x(1)), output=node.out()))

    return rule


def divide(node: Node) -> None:
    """Of integers the quotient is truncated."""
    if node.element_type(0) in INTEGERS:
        op = Div(inputs=(node.x(0), node.x(1)), output=node.part("quotient"))
        truncated(node, node.add(op))
    else:
        binary(Div)(node)


def minimum(node: Node) -> None:
    bounded = _bounded(node)
    if bounded is not None:
        x, bound = bounded
        _clamp(node, x, ClampRange(high=bound))
    else:
        _chain(node, Minimum, node.out)


def maximum(node: Node) -> None:
    bounded = _bounded(node)
    if bounded is not None:
        x, bound = bounded
        _clamp(node, x, ClampRange(low=bound))
    else:
        _chain(node, Maximum, node.out)


def _bounded(node: Node) -> tuple[TensorId, float] | None:
    """The activation and the scalar of `Max(x, 0)`, which is a clamp; else None."""
    constants = [i for i in range(node.arity) if node.is_constant(i)]
    if node.arity != 2 or len(constants) != 1:
        return None
    (index,) = constants
    bound = node.constant(index, "the bound")
    if bound.size != 1 or bound.ndim > len(node.shape(1 - index)):
        return None
    value = node.scalar(index, "the bound")
    node.require(math.isfinite(value), "its constant operand is not finite")
    return node.x(1 - index), value


def total(node: Node) -> None:
    _chain(node, Add, node.out)


def mean(node: Node) -> None:
    """The mean of n operands: their sum times 1 / n."""
    if node.arity == 1:
        node.alias(node.x())
        return
    y = _chain(node, Add, lambda: node.part("sum"))
    node.add(
        Unary(
            inputs=(y,),
            output=node.out(),
            function=Function.AFFINE,
            alpha=1.0 / node.arity,
        )
    )


def _chain(node: Node, cls: type[Binary], last: Callable[[], TensorId]) -> TensorId:
    """op(op(a, b), c) ...; the last result has the id that `last` gives."""
    y = node.x(0)
    if node.arity == 1:
        node.alias(y)
    for i in range(1, node.arity):
        final = i == node.arity - 1
        y = node.add(cls(inputs=(y, node.x(i)), output=last() if final else node.part("chain")))
    return y


RULES: Mapping[str, Rule] = {
    "Abs": unary(Function.ABS),
    "Add": binary(Add),
    "Asinh": unary(Function.ASINH),
    "Atan": unary(Function.ATAN),
    "Ceil": unary(Function.CEIL),
    "Celu": parametric(Function.CELU, alpha=1.0),
    "Clip": clip,
    "Cos": unary(Function.COS),
    "Cosh": unary(Function.COSH),
    "Div": divide,
    "Elu": parametric(Function.ELU, alpha=1.0),
    "Erf": unary(Function.ERF),
    "Exp": unary(Function.EXP),
    "Floor": unary(Function.FLOOR),
    "Gelu": gelu,
    "HardSigmoid": parametric(Function.HARD_SIGMOID, alpha=0.2, beta=0.5),
    "HardSwish": unary(Function.HARD_SWISH),
    "LeakyRelu": parametric(Function.LEAKY_RELU, alpha=0.01),
    "Log": unary(Function.LOG),
    "Max": maximum,
    "Mean": mean,
    "Min": minimum,
    "Mish": unary(Function.MISH),
    "Mul": binary(Mul),
    "Neg": unary(Function.NEG),
    "PRelu": prelu,
    "Pow": power,
    "Reciprocal": unary(Function.RECIPROCAL),
    "Relu": relu,
    "Round": unary(Function.ROUND),
    "Selu": parametric(
        Function.SELU,
        alpha=1.67326319217681884765625,
        beta=1.05070102214813232421875,
        beta_name="gamma",
    ),
    "Sigmoid": unary(Function.SIGMOID),
    "Shrink": parametric(Function.SHRINK, alpha=0.5, alpha_name="lambd", beta_name="bias"),
    "Sign": unary(Function.SIGN),
    "Sin": unary(Function.SIN),
    "Sinh": unary(Function.SINH),
    "Softplus": unary(Function.SOFTPLUS),
    "Softsign": unary(Function.SOFTSIGN),
    "Sqrt": unary(Function.SQRT),
    "Sub": binary(Sub),
    "Sum": total,
    "Swish": parametric(Function.SILU, alpha=1.0),
    "ThresholdedRelu": parametric(Function.THRESHOLDED_RELU, alpha=1.0),
    "Tanh": unary(Function.TANH),
}
