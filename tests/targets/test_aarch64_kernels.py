"""The same graphs on the instruction sets of AArch64, in an emulator, give the same bits."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from qcomp.ir.evaluate import evaluate
from qcomp.ir.ops import (
    QAdd,
    QConv2d,
    QDense,
    QMaximum,
    QMinimum,
    QMul,
)
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.targets.cpu.isa import AARCH64
from qcomp.targets.cpu.lower.lookup import fused_lookups
from qcomp.targets.cpu.lower.residual import fused_residuals
from qcomp.targets.cpu.machine import Isa
from tests.targets.aarch64 import (
    each_set,
    expect_exact,
    run_in_emulator,
)
from tests.targets.every_kind import cases, linear
from tests.targets.test_cpu_ceiling import network as bounded
from tests.targets.test_cpu_lookup import activated
from tests.targets.test_cpu_residual import block


def elementwise_cases(kit: Any) -> dict[str, tuple[Any, list[Any]]]:
    """Of every length up to two vectors, with the largest terms, sums and products."""
    pair = {"a_zero_point": -128, "b_zero_point": 127}
    result: dict[str, tuple[Any, list[Any]]] = {}
    for n in (1, 7, 16, 23, 33):
        x, y = kit.i8(n, seed=n), kit.i8(n, seed=n + 1)
        x[:1], y[:1] = 127, -128
        adds = [(16000, 8000, 0, 0), (-9000, 20000, 3, 100), (32767, 32767, 7, -5), (1, -1, 15, 9)]
        for k, (a, b, fraction, zero_point) in enumerate(adds):
            scales = {"a_multiplier": a, "b_multiplier": b, "fraction_bits": fraction}
            add = partial(QAdd, **pair, **scales, zero_point=zero_point, qmin=-120, qmax=127)
            result[f"add {k} of {n}"] = add, [x, y]
        for shift, multiplier, zero_point in ((0, 3, 0), (2, 32767, -7), (15, 20000, 64)):
            q = Requantize(Form.NARROW, zero_point, -128, 99)
            mul = partial(QMul, **pair, multiplier=multiplier, shift=shift, requantize=q)
            result[f"mul {shift} of {n}"] = mul, [x, y]
        result[f"minimum {n}"] = partial(QMinimum, qmin=-100, qmax=90), [x, y]
        result[f"maximum {n}"] = partial(QMaximum, qmin=-128, qmax=127), [x, y]
    return result


@each_set
def test_elementwise_ops_of_every_length(kit: Any, isa: Isa, arm_gcc: str, tmp_path: Path) -> None:
    expect_exact(kit, elementwise_cases(kit), isa, arm_gcc, tmp_path)


@pytest.mark.few(1)
@each_set
def test_every_kind_of_kernel_in_one_program(
    kit: Any, isa: Isa, arm_gcc: str, tmp_path: Path
) -> None:
    expect_exact(kit, cases(kit), isa, arm_gcc, tmp_path)


DEPTHWISE: dict[str, tuple[tuple[int, ...], tuple[int, int], dict[str, Any]]] = {
    "3 channels": ((1, 6, 7, 3), (3, 3), {}),
    "8 channels": ((1, 9, 8, 8), (3, 3), {"padding": (1, 1, 1, 1)}),
    "12 channels": ((2, 5, 9, 12), (3, 3), {"stride": (2, 2), "padding": (0, 0, 1, 1)}),
    "16 channels": ((1, 7, 7, 16), (3, 3), {"dilation": (2, 3), "padding": (2, 2, 3, 3)}),
    "24 channels": ((1, 7, 7, 24), (5, 5), {"padding": (2, 2, 2, 2)}),
    "40 channels": ((1, 9, 8, 40), (5, 3), {"stride": (2, 1)}),
    "67 channels": ((1, 3, 5, 67), (3, 3), {}),
    "shared columns": ((1, 9, 24, 32), (3, 2), {}),
    "shared columns in turns": ((1, 6, 10, 32), (3, 3), {}),
    "one column": ((1, 12, 1, 20), (5, 1), {}),
    "one row": ((1, 1, 11, 20), (1, 4), {"stride": (1, 3)}),
    "pool of an image": ((1, 7, 7, 21), (7, 7), {}),
    "long kernel": ((1, 2, 45, 19), (2, 41), {}),
}


def depthwise_cases(kit: Any) -> dict[str, tuple[Any, list[Any]]]:
    result: dict[str, tuple[Any, list[Any]]] = {}
    for n, (name, (x, kernel, window)) in enumerate(DEPTHWISE.items()):
        channels = x[3]
        for least in (-127, -128):
            weight = np.maximum(kit.i8(channels, *kernel, 1, seed=n), -127)
            weight[-1] = least
            form = [Form.NARROW, Form.NARROW, Form.WIDE, Form.TFLITE][n % 4]
            op, constants = linear(kit, QConv2d, form, weight, groups=channels, **window)
            values = kit.i8(*x, seed=n)
            values[..., -1] = -128
            result[f"{name} from {-least}"] = op, [values, *constants]
    return result


@pytest.mark.few(1)
@each_set
def test_depthwise_layers_of_every_shape(kit: Any, isa: Isa, arm_gcc: str, tmp_path: Path) -> None:
    """With the largest products: of -128 by -127, of which two fit 16 bits, and by -128."""
    expect_exact(kit, depthwise_cases(kit), isa, arm_gcc, tmp_path)


@each_set
@pytest.mark.parametrize("kernel", [1, 3])
def test_residual_additions_join_the_narrow_epilogue(
    kit: Any, kernel: int, isa: Isa, arm_gcc: str, tmp_path: Path
) -> None:
    graph, inputs = block(kit, 7, 20, kernel, bordered=True, relu=True)
    assert fused_residuals(graph, isa)
    got = run_in_emulator(graph, inputs, [isa], arm_gcc, tmp_path)
    for name, expected in evaluate(graph, inputs).items():
        assert_array_equal(got[name], expected, err_msg=name)


@each_set
@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
def test_a_ceiling_of_each_channel_stays_with_its_channel(
    kit: Any, kind: str, isa: Isa, arm_gcc: str, tmp_path: Path
) -> None:
    graph = bounded(kind, kit.i8(21))
    inputs = {"x": kit.i8(*graph.type("x").shape)}
    got = run_in_emulator(graph, inputs, [isa], arm_gcc, tmp_path)
    assert_array_equal(got["z"], evaluate(graph, inputs)["z"])


@each_set
def test_lookups_join_the_narrow_epilogue(kit: Any, isa: Isa, arm_gcc: str, tmp_path: Path) -> None:
    for n, (size, channels, outputs, kernel, depthwise) in enumerate(LOOKUPS):
        graph, inputs = activated(
            kit, size, channels, outputs, kernel, depthwise=depthwise, clamped=n % 2 == 1
        )
        assert bool(fused_lookups(graph, isa)) == (isa != AARCH64)
        directory = tmp_path / str(n)
        directory.mkdir()
        got = run_in_emulator(graph, dict(inputs), [isa], arm_gcc, directory)
        assert_array_equal(got["y"], evaluate(graph, inputs)["y"], err_msg=str(n))


SCALES = {
    Form.WIDE: (1, 62),
    Form.TFLITE: (-31, 8),
}


@each_set
@pytest.mark.parametrize("form", SCALES, ids=lambda form: form.value)
def test_every_shift_of_the_forms_that_are_not_narrow(
    kit: Any, form: Form, isa: Isa, arm_gcc: str, tmp_path: Path
) -> None:
    """A channel for each, with ties of both signs: half of the sums are odd, times a half."""
    low, high = SCALES[form]
    shift = np.arange(low, high + 1, dtype=np.int32)
    channels = len(shift)
    found: dict[str, tuple[Any, list[Any]]] = {}
    for multiplier in (2**30, 2**31 - 1, 2**30 + 12345):
        tables = (np.full(channels, n, np.int32) for n in (-3, multiplier))
        weight = kit.i8(channels, 3, seed=1) // 43
        op = partial(QDense, x_zero_point=0, requantize=Requantize(form, -5, -120, 125))
        constants = [kit.fixed(a) for a in (weight, *tables, shift)]
        found[f"times {multiplier}"] = op, [kit.i8(64, 3), *constants]
    expect_exact(kit, found, isa, arm_gcc, tmp_path)


LOOKUPS = [(5, 8, 33, 3, False), (7, 19, 24, 1, False), (6, 21, 21, 3, True)]
SHAPES = [(1, 4), (1, 23), (3, 12), (5, 8), (7, 36), (9, 17)]  # pixels, channels


@each_set
def test_matrices_of_few_rows_and_channels(
    kit: Any, isa: Isa, arm_gcc: str, tmp_path: Path
) -> None:
    """Parts of tiles, of pairs of pixels and of vectors; each channel scales its own way."""
    found: dict[str, tuple[Any, list[Any]]] = {}
    for n, (pixels, channels) in enumerate(SHAPES):
        q = Requantize(Form.NARROW, 5 - n)
        tables = [
            np.arange(channels, dtype=np.int32) * 97 - 800,
            np.arange(channels, dtype=np.int32) * 211 + 9000,
            np.arange(channels, dtype=np.int32) % 5 + 3,
        ]
        op = partial(QDense, x_zero_point=0, requantize=q)
        weight = np.maximum(kit.i8(channels, 27 + n, seed=n), -127)
        constants = [kit.fixed(a) for a in (weight, *tables)]
        found[f"{pixels} by {channels}"] = op, [kit.i8(pixels, 27 + n, seed=n), *constants]
    expect_exact(kit, found, isa, arm_gcc, tmp_path)
