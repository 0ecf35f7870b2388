"""The real functions of `Unary`, on float64: `FUNCTIONS[f](x, alpha, beta)`.

Passes that tabulate a function use this table too, so that table and float meaning agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import special

from qcomp.ir.ops import Function

F64 = NDArray[np.float64]
RealFunction = Callable[[F64, float, float], F64]


def elu(x: F64, alpha: float) -> F64:
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def celu(x: F64, alpha: float) -> F64:
    return np.maximum(x, 0.0) + np.minimum(0.0, alpha * np.expm1(np.minimum(x / alpha, 0.0)))


def sigmoid(x: F64) -> F64:
    return np.asarray(special.expit(x))


def softplus(x: F64) -> F64:
    return np.logaddexp(0.0, x)


def gelu(x: F64) -> F64:
    """x * Phi(x), Phi the normal distribution function."""
    return np.asarray(x * special.ndtr(x))


def gelu_tanh(x: F64) -> F64:
    """Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016, section 2."""
    return np.asarray(0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))))


def shrink(x: F64, alpha: float, beta: float) -> F64:
    return np.where(x > alpha, x - beta, np.where(x < -alpha, x + beta, 0.0))


FUNCTIONS: Mapping[Function, RealFunction] = {
    Function.LEAKY_RELU: lambda x, alpha, beta: np.where(x >= 0, x, alpha * x),
    Function.ELU: lambda x, alpha, beta: elu(x, alpha),
    Function.SELU: lambda x, alpha, beta: beta * elu(x, alpha),
    Function.CELU: lambda x, alpha, beta: celu(x, alpha),
    Function.SIGMOID: lambda x, alpha, beta: sigmoid(x),
    Function.HARD_SIGMOID: lambda x, alpha, beta: np.clip(alpha * x + beta, 0.0, 1.0),
    Function.HARD_SWISH: lambda x, alpha, beta: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    Function.SILU: lambda x, alpha, beta: x * sigmoid(alpha * x),
    Function.TANH: lambda x, alpha, beta: np.tanh(x),
    Function.SOFTPLUS: lambda x, alpha, beta: softplus(x),
    Function.SOFTSIGN: lambda x, alpha, beta: x / (1.0 + np.abs(x)),
    Function.MISH: lambda x, alpha, beta: x * np.tanh(softplus(x)),
    Function.GELU: lambda x, alpha, beta: gelu(x),
    Function.GELU_TANH: lambda x, alpha, beta: gelu_tanh(x),
    Function.ERF: lambda x, alpha, beta: np.asarray(special.erf(x)),
    Function.EXP: lambda x, alpha, beta: np.exp(x),
    Function.LOG: lambda x, alpha, beta: np.log(x),
    Function.SQRT: lambda x, alpha, beta: np.sqrt(x),
    Function.RECIPROCAL: lambda x, alpha, beta: 1.0 / x,
    Function.NEG: lambda x, alpha, beta: -x,
    Function.ABS: lambda x, alpha, beta: np.abs(x),
    Function.POW: lambda x, alpha, beta: np.power(x, alpha),
    Function.SIN: lambda x, alpha, beta: np.sin(x),
    Function.COS: lambda x, alpha, beta: np.cos(x),
    Function.ATAN: lambda x, alpha, beta: np.arctan(x),
    Function.SINH: lambda x, alpha, beta: np.sinh(x),
    Function.COSH: lambda x, alpha, beta: np.cosh(x),
    Function.ASINH: lambda x, alpha, beta: np.arcsinh(x),
    Function.SHRINK: lambda x, alpha, beta: shrink(x, alpha, beta),
    Function.THRESHOLDED_RELU: lambda x, alpha, beta: np.where(x > alpha, x, 0.0),
    Function.FLOOR: lambda x, alpha, beta: np.floor(x),
    Function.CEIL: lambda x, alpha, beta: np.ceil(x),
    Function.ROUND: lambda x, alpha, beta: np.rint(x),
    Function.SIGN: lambda x, alpha, beta: np.sign(x),
    Function.AFFINE: lambda x, alpha, beta: alpha * x + beta,
}
