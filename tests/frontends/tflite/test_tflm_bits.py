"""With arithmetic="tflm" the integers are those of TensorFlow Lite Micro's kernels.

Which are written here once more, value by value, as its C++ is (micro/kernels, and the reference
kernels and gemmlowp below them). `benchmarks/tflm_bits.py` compares with TFLM's interpreter itself.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from operator_cases import BOTH, Net
from random_nets import PerTensorNet, RandomNet
from test_tflite_bits import lowered

import qcomp
from qcomp.config import QuantizationConfig
from qcomp.errors import CompileError, PassError
from qcomp.ir.evaluate import evaluate

TFLM = QuantizationConfig(arithmetic="tflm")
INT_MAX = 2**31 - 1
F32 = np.float32


# --- gemmlowp's fixedpoint.h


def truncated(a: int, b: int) -> int:
    return abs(a) // b * (1 if a >= 0 else -1)


def high_mul(a: int, b: int) -> int:
    """SaturatingRoundingDoublingHighMul."""
    product = a * b
    return truncated(product + (2**30 if product >= 0 else 1 - 2**30), 2**31)


def divide_by_pot(x: int, e: int) -> int:
    """RoundingDivideByPOT."""
    mask = (1 << e) - 1
    return (x >> e) + ((x & mask) > (mask >> 1) + (x < 0))


def left(x: int, bits: int) -> int:
    return min(max(x << bits, -(2**31)), INT_MAX)


def exp_on_negative(x: int, fraction: int) -> int:
    quarter = 1 << (fraction - 2)
    rest = (x & (quarter - 1)) - quarter
    a = left(rest, 31 - fraction) + 2**28
    a2 = high_mul(a, a)
    a3, a4 = high_mul(a2, a), high_mul(a2, a2)
    inner = divide_by_pot(high_mul(divide_by_pot(a4, 2) + a3, 715827883) + a2, 1)
    result = 1895147668 + high_mul(1895147668, a + inner)
    powers = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
    for exponent, power in zip(range(-2, 31 - fraction), powers, strict=False):
        if (rest - x) & (1 << (fraction + exponent)):
            result = high_mul(result, power)
    return INT_MAX if x == 0 else result


def newton(a: int) -> int:
    """1 / ((1 + a) / 2) in Q29."""
    half = (a + INT_MAX + 1) // 2
    x = 1515870810 + high_mul(half, -1010580540)
    for _ in range(3):
        x += left(high_mul(x, 2**29 - high_mul(half, x)), 2)
    return x


def logistic(x: int) -> int:
    if x == 0:
        return 2**30
    positive = left(newton(exp_on_negative(-abs(x), 27)), 1)
    return positive if x > 0 else INT_MAX - positive


def tanh(x: int) -> int:
    if x == 0:
        return 0
    size = left(newton(exp_on_negative(-abs(x), 26)) - 2**29, 2)
    return size if x > 0 else -size


# --- quantization_util.h and common.h


def quantize_multiplier(real: float) -> tuple[int, int]:
    mantissa, shift = math.frexp(real)
    q31 = math.floor(mantissa * 2**31 + 0.5)
    return (q31 // 2, shift + 1) if q31 == 2**31 else (q31, shift)


def mbqm(x: int, fixed: tuple[int, int]) -> int:
    """MultiplyByQuantizedMultiplier of 32 bits."""
    q31, shift = fixed
    return divide_by_pot(high_mul(x << max(shift, 0), q31), max(-shift, 0))


def mbqm_of_64(x: int, fixed: tuple[int, int]) -> int:
    q31, shift = fixed
    reduced = (q31 + 2**15) >> 16 if q31 < 0x7FFF0000 else 0x7FFF
    return (x * reduced + (1 << (14 - shift))) >> (15 - shift)


def clipped(x: int, low: int = -128, high: int = 127) -> int:
    return min(max(x, low), high)


# --- what the tests need of a file


class File:
    """The tensors of an operator's file by their place among its operands."""

    def __init__(self, net: Net) -> None:
        self.net, self.op = net, net.builder.operators[-1]

    def scales(self, i: int) -> list[float]:
        return [float(F32(s)) for s in self.tensor(i).quantization.scale]

    def zero(self, i: int) -> int:
        return int(self.tensor(i).quantization.zeroPoint[0])

    def tensor(self, i: int) -> Any:
        """The result with -1."""
        index = self.op.outputs[0] if i < 0 else self.op.inputs[i]
        return self.net.builder.tensors[index]

    def data(self, i: int, dtype: Any) -> Any:
        t = self.tensor(i)
        return self.net.builder.buffers[t.buffer].data.view(dtype).reshape(t.shape)

    def activation(self) -> tuple[int, int]:
        limits = np.iinfo(self.net.dtype)
        low, high = int(limits.min), int(limits.max)
        (sy,), zy = self.scales(-1), self.zero(-1)
        kind = getattr(self.op.builtinOptions, "fusedActivationFunction", 0)
        steps = {
            b: zy + round(float(np.trunc(b / F32(sy) + 0.5 * np.sign(b)))) for b in (-1, 0, 1, 6)
        }
        bounds = {1: (0, None), 2: (-1, 1), 3: (0, 6)}.get(kind, (None, None))
        return (
            low if bounds[0] is None else max(low, steps[bounds[0]]),
            high if bounds[1] is None else min(high, steps[bounds[1]]),
        )  # fmt: skip


def compared(net: Net, expected: Any) -> None:
    """What the lowered graph gives, with what a function of file and operands gives."""
    graph, feeds = lowered(net.model, TFLM), net.feeds()
    (ours,) = evaluate(graph, dict(zip(graph.inputs, feeds, strict=True))).values()
    theirs = expected(File(net), *feeds)
    assert_array_equal(ours.reshape(-1), np.array(theirs).reshape(-1))


# --- operators


def fully_connected(f: File, x: Any) -> list[int]:
    wide = x.dtype == np.int16
    (sx,), sw, (sy,) = f.scales(0), f.scales(1), f.scales(-1)
    weight, bias = f.data(1, np.int8), f.data(2, np.int64 if wide else np.int32)
    reals = [float(F32(sx) * F32(sw[0])) / sy] * len(weight)
    if len(sw) > 1:
        reals = [sx * s / sy for s in sw]
    low, high = f.activation()
    results = []
    for row in x.reshape(-1, weight.shape[1]).tolist():
        for w, b, real in zip(weight.tolist(), bias.tolist(), reals, strict=True):
            acc = sum(c * (v - f.zero(0)) for c, v in zip(w, row, strict=True)) + b
            scale = mbqm_of_64 if wide else mbqm
            results.append(clipped(scale(acc, quantize_multiplier(real)) + f.zero(-1), low, high))
    return results


@pytest.mark.parametrize("kind", [RandomNet, PerTensorNet])
@pytest.mark.parametrize("seed", range(12))
def test_dense_layers_of_8_bits(kind: type[RandomNet], seed: int) -> None:
    net = kind(np.int8, rng=np.random.default_rng(seed))
    BOTH["FULLY_CONNECTED"](net)
    compared(net, fully_connected)


@pytest.mark.parametrize("seed", range(4))
def test_dense_layers_of_16_bits(seed: int) -> None:
    net = PerTensorNet(np.int16, rng=np.random.default_rng(seed))
    BOTH["FULLY_CONNECTED"](net)
    compared(net, fully_connected)
    net = RandomNet(np.int16, rng=np.random.default_rng(seed))
    BOTH["FULLY_CONNECTED"](net)
    with pytest.raises(PassError, match="a scale for each channel has no kernel in TensorFlow Lit"):
        lowered(net.model, TFLM)


def test_a_dense_layer_rounds_otherwise_than_that_of_litert() -> None:
    """The text of both graphs says how."""
    net = RandomNet(np.int8, rng=np.random.default_rng(0))
    BOTH["FULLY_CONNECTED"](net)
    assert "form=tflite" in str(lowered(net.model, TFLM))
    assert "form=away" in str(lowered(net.model))


def product(f: File, a: Any, b: Any) -> list[int]:
    fixed = quantize_multiplier(f.scales(0)[0] * f.scales(1)[0] / f.scales(-1)[0])
    pairs = zip(a.reshape(-1).tolist(), b.reshape(-1).tolist(), strict=True)
    terms = [mbqm((p - f.zero(0)) * (q - f.zero(1)), fixed) for p, q in pairs]
    return [clipped(t + f.zero(-1), *f.activation()) for t in terms]


def leaky(f: File, x: Any) -> list[int]:
    (sx,), (sy,), alpha = f.scales(0), f.scales(-1), float(F32(f.op.builtinOptions.alpha))
    positive, negative = quantize_multiplier(sx / sy), quantize_multiplier(abs(sx * alpha / sy))
    if alpha < 0:
        negative = -negative[0], negative[1]
    terms = [v - f.zero(0) for v in x.reshape(-1).tolist()]
    scaled = [mbqm(t, positive if t >= 0 else negative) for t in terms]
    return [clipped(t + f.zero(-1), *f.activation()) for t in scaled]


def rectified(f: File, x: Any) -> list[int]:
    fixed = quantize_multiplier(f.scales(0)[0] / f.scales(-1)[0])
    scaled = [mbqm(v - f.zero(0), fixed) + f.zero(-1) for v in x.reshape(-1).tolist()]
    return [clipped(t, max(-128, f.zero(-1)), 127) for t in scaled]


def saturating(function: Any, bits: int, zero: int) -> Any:
    def of_file(f: File, x: Any) -> list[int]:
        mantissa, shift = math.frexp(f.scales(0)[0] * 2**27)
        fixed = math.floor(mantissa * 2**31 + 0.5), shift
        radius = math.floor(15 * 2**27 / 2**shift)
        results = []
        for v in x.reshape(-1).tolist():
            t = v - f.zero(0)
            if abs(t) >= radius:
                results.append(127 if t > 0 else -128)
            else:
                results.append(clipped(divide_by_pot(function(mbqm(t, fixed)), bits) + zero))
        return results

    return of_file


OPERATORS = {
    "MUL": product,
    "LEAKY_RELU": leaky,
    "RELU": rectified,
    "LOGISTIC": saturating(logistic, 23, -128),
    "TANH": saturating(tanh, 24, 0),
}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", OPERATORS)
def test_operators_of_8_bits(name: str, seed: int) -> None:
    net = RandomNet(np.int8, rng=np.random.default_rng(seed))
    BOTH[name](net)
    compared(net, OPERATORS[name])


@pytest.mark.parametrize(
    ("name", "dtype", "reason"),
    [
        ("RELU6", np.int8, r"a clamp to \[0, 6\] that changes the scale has no kernel in Tens"),
        ("HARD_SWISH", np.int16, "hard_swish of 16 bits has no arithmetic of TensorFlow Lite M"),
        ("ADD", np.uint8, "has no kernels of bytes without a sign; expected int8 or int16"),
    ],
)  # fmt: skip
def test_what_has_no_kernel_is_refused(name: str, dtype: Any, reason: str) -> None:
    net = RandomNet(dtype, rng=np.random.default_rng(0))
    BOTH[name](net)
    with pytest.raises(PassError, match=reason):
        lowered(net.model, TFLM)


def test_code_has_the_same_bits() -> None:
    for name in ("FULLY_CONNECTED", "LOGISTIC"):
        net = RandomNet(np.int8, rng=np.random.default_rng(7))
        BOTH[name](net)
        compiled = qcomp.compile(net.model, "avx2", config=TFLM, name="net")
        x = net.feeds()[0]
        theirs = {**OPERATORS, "FULLY_CONNECTED": fully_connected}[name](File(net), x)
        assert compiled.run_integer(x).reshape(-1).tolist() == theirs


def test_floats_have_no_such_arithmetic() -> None:
    net = Net()
    BOTH["ADD"](net)
    with pytest.raises(CompileError, match="arithmetic='tflm': the model comes in form float"):
        qcomp.compile(net.model, "avx2", config=TFLM)
