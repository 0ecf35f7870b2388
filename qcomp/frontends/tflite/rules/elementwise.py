"""Functions of one value, and of two that broadcast."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qcomp.frontends.tflite.context import Node, Rule
from qcomp.ir.ops import (
    NO_CLAMP,
    RELU,
    RELU6,
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
    Reduce,
    Reduction,
    Sub,
    Unary,
)


def _unary(function: Function, alpha: float = 1.0, beta: float = 0.0) -> Rule:
    def rule(node: Node) -> None:
        node.finish_unary(function, alpha, beta)

    return rule


def _clamp(clamp: ClampRange) -> Rule:
    def rule(node: Node) -> None:
        node.finish(Clamp(inputs=(node.x(),), output=node.out(), clamp=clamp))

    return rule


def _binary(kind: type[Binary], fuses: bool = True) -> Rule:
    def rule(node: Node) -> None:
        clamp = node.clamp() if fuses else NO_CLAMP
        node.finish(kind(inputs=(node.x(0), node.x(1)), output=node.out(), clamp=clamp))

    return rule


def leaky_relu(node: Node) -> None:
    node.finish_unary(Function.LEAKY_RELU, float(node.option("alpha")))


def gelu(node: Node) -> None:
    approximate = node.option("approximate", False)
    node.finish_unary(Function.GELU_TANH if approximate else Function.GELU)


def prelu(node: Node) -> None:
    node.require(node.is_constant(1), "the slopes must be a constant", "a buffer of the file")
    node.finish(PRelu(inputs=(node.x(), node.weight(1)), output=node.out()))


def power(node: Node) -> None:
    exponent = node.floats(1, "the exponent")
    node.require(exponent.size == 1, f"{exponent.size} exponents", "one for all")
    node.finish_unary(Function.POW, float(exponent.reshape(())))


def squared_difference(node: Node) -> None:
    difference = node.add(Sub(inputs=(node.x(0), node.x(1)), output=node.part("difference")))
    node.finish(Mul(inputs=(difference, difference), output=node.out()))


def add_n(node: Node) -> None:
    count = len(node.op.inputs)
    node.require(count >= 2, f"{count} operands", "two or more")
    total = node.x(0)
    for i in range(1, count):
        last = i == count - 1
        op = Add(inputs=(total, node.x(i)), output=node.out() if last else node.part(f"sum{i}"))
        if last:
            node.finish(op)
        else:
            total = node.add(op)


def l2_normalization(node: Node) -> None:
    """x / sqrt(max(sum of squares, 1e-6)), along the last axis."""
    node.require(node.clamp() == NO_CLAMP, "a fused activation", "none")
    x, last = node.x(), len(node.shape()) - 1
    square = node.add(Mul(inputs=(x, x), output=node.part("square")))
    total = node.add(
        Reduce(inputs=(square,), output=node.part("sum"), kind=Reduction.SUM, axes=(last,))
    )
    floor = ClampRange(float(np.float32(1e-6)))
    clamped = node.add(Clamp(inputs=(total,), output=node.part("floor"), clamp=floor))
    root = node.add(Unary(inputs=(clamped,), output=node.part("root"), function=Function.SQRT))
    node.finish(Div(inputs=(x, root), output=node.out()))


def cast(node: Node) -> None:
    """Of integers that are floats here already; other casts to floats change nothing."""
    node.require(node.result().kind == "FLOAT32", f"a cast to {node.result().kind}", "FLOAT32")
    node.alias(node.x())


def to_float(node: Node) -> None:
    """DEQUANTIZE: the integers' values are floats here already."""
    node.alias(node.x())


def quantize(node: Node) -> None:
    """From floats, or from integers of another scale."""
    node.require(node.quantized, f"integers of {node.result().kind}", "INT8, UINT8 or INT16")
    node.give(node.x())


RULES: Mapping[str, Rule] = {
    "ABS": _unary(Function.ABS),
    "ADD": _binary(Add),
    "ADD_N": add_n,
    "CAST": cast,
    "CEIL": _unary(Function.CEIL),
    "COS": _unary(Function.COS),
    "DEQUANTIZE": to_float,
    "DIV": _binary(Div),
    "ELU": _unary(Function.ELU),
    "EXP": _unary(Function.EXP),
    "FLOOR": _unary(Function.FLOOR),
    "GELU": gelu,
    "HARD_SWISH": _unary(Function.HARD_SWISH),
    "L2_NORMALIZATION": l2_normalization,
    "LEAKY_RELU": leaky_relu,
    "LOG": _unary(Function.LOG),
    "LOGISTIC": _unary(Function.SIGMOID),
    "MAXIMUM": _binary(Maximum, fuses=False),
    "MINIMUM": _binary(Minimum, fuses=False),
    "MUL": _binary(Mul),
    "NEG": _unary(Function.NEG),
    "POW": power,
    "PRELU": prelu,
    "QUANTIZE": quantize,
    "RELU": _clamp(RELU),
    "RELU6": _clamp(RELU6),
    "RELU_0_TO_1": _clamp(ClampRange(0.0, 1.0)),
    "RELU_N1_TO_1": _clamp(ClampRange(-1.0, 1.0)),
    "ROUND": _unary(Function.ROUND),
    "RSQRT": _unary(Function.POW, -0.5),
    "SIGN": _unary(Function.SIGN),
    "SIN": _unary(Function.SIN),
    "SQRT": _unary(Function.SQRT),
    "SQUARE": _unary(Function.POW, 2.0),
    "SQUARED_DIFFERENCE": squared_difference,
    "SUB": _binary(Sub),
    "TANH": _unary(Function.TANH),
}
