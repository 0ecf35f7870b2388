"""Layers of 16-bit activations on AArch64: exact for all shapes, scales and extremes of values."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from qcomp.ir.ops import Interpolate, QAddWide, QConv2d, QDense, QMul, QRescale
from qcomp.quant.fixed_point import Form, Requantize, requantize
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.dot import SdotRows, SmullPairs
from qcomp.targets.cpu.arm.i16.layers import by_matrices, by_planes, by_words
from qcomp.targets.cpu.arm.i16.planes import Planes
from qcomp.targets.cpu.arm.i16.products import TiledProducts
from qcomp.targets.cpu.arm.i16.scale import doubled, in_words, shifts_in_words
from qcomp.targets.cpu.arm.i16.tiling import best_vectors
from qcomp.targets.cpu.arm.i16.words import Words
from qcomp.targets.cpu.arm.smmla import Smmla
from qcomp.targets.cpu.emit.builder import I8, I16, I32
from qcomp.targets.cpu.emit.i16.spec import LayerConstants, ProductSpec
from qcomp.targets.cpu.isa import AARCH64, AARCH64_DOTPROD, AARCH64_I8MM
from qcomp.targets.cpu.kernels.axis import Axis
from qcomp.targets.cpu.machine import Isa
from tests.targets.aarch64 import each_set, expect_exact

WIDE = Requantize(Form.WIDE, 0, -(2**15), 2**15 - 1, 16)
LIMITED = Requantize(Form.WIDE, 0, 0, 20000, 16)
EIGHT = Requantize(Form.WIDE, -7, -100, 120)
MOVED = Requantize(Form.WIDE, 5, -128, 127)
# Shifts of channels: those that sqdmulh takes, those that it does not, and both.
SCALES = [(2**30 + 7, (44, 47)), (2**31 - 1, (31, 62)), (3, (1, 13)), (2**20, (20, 40))]


def layer(
    kit: Any, make: Any, x: Any, weight: Any, n: int, q: Requantize, bias: Any, **fields: Any
) -> tuple[Any, list[Any]]:
    """With the n-th of SCALES; the largest products in the last channel, of odd ones without the
    weight whose products do not add up in 16 bits.
    """
    multiplier, (low, high) = SCALES[n % len(SCALES)]
    outputs = len(weight)
    values = np.clip(weight, -127, 127)
    values[-1] = -127 if n % 2 else -128
    x.reshape(-1)[:3] = np.iinfo(x.dtype).min
    shift = np.linspace(low, high, outputs).astype(np.int32)
    tables = (
        np.linspace(-9000, 9000, outputs).astype(bias),
        np.full(outputs, multiplier, np.int32),
        shift,
    )
    zero_point = 3 if x.dtype == np.int8 and "padding" not in fields else 0
    op = partial(make, x_zero_point=zero_point, requantize=q, **fields)
    return op, [x, *map(kit.fixed, (values, *tables))]


# Of x, and of weights: channels around vectors and blocks, runs around steps, segments, groups.
SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "one channel": ((1, 3, 5, 9), (1, 1, 1, 9), {}),
    "three": ((1, 4, 3, 7), (3, 3, 3, 7), {"padding": (1, 1, 1, 1)}),
    "first": ((1, 9, 11, 3), (16, 3, 3, 3), {"stride": (2, 2), "padding": (0, 0, 1, 1)}),
    "five": ((1, 7, 7, 36), (5, 1, 1, 36), {}),
    "nineteen": ((2, 5, 6, 8), (19, 2, 2, 8), {"dilation": (2, 1)}),
    "twenty four": ((1, 7, 9, 19), (24, 1, 1, 19), {}),
    "thirty three": ((1, 5, 4, 4), (33, 3, 1, 4), {"stride": (1, 2)}),
    "groups": ((1, 5, 5, 12), (15, 3, 3, 4), {"groups": 3}),
}


def convolutions(kit: Any) -> dict[str, tuple[Any, list[Any]]]:
    found: dict[str, tuple[Any, list[Any]]] = {}
    kinds = [(kit.i16, WIDE, np.int32), (kit.i16, EIGHT, np.int64), (kit.i8, LIMITED, np.int32)]
    for n, (name, (x, weight, window)) in enumerate(SHAPES.items()):
        for k in (n, n + 1):
            values, q, bias = kinds[k % len(kinds)]
            small = kit.i8(*weight, seed=n) // 8
            operands = (values(*x, seed=n), small, n + k, q, bias)
            found[f"{name} {k - n}"] = layer(kit, QConv2d, *operands, **window)
    return found


@each_set
def test_convolutions_of_every_shape(kit: Any, isa: Isa, arm_gcc: str, tmp_path: Path) -> None:
    expect_exact(kit, convolutions(kit), isa, arm_gcc, tmp_path)


DENSE = [(1, 10, 17), (5, 7, 250), (3, 9, 2045), (1, 4, 2**17 - 1), (1, 4, 2**17)]


@each_set
def test_dense_layers_with_sums_beyond_32_bits(
    kit: Any, isa: Isa, arm_gcc: str, tmp_path: Path
) -> None:
    """In parts where one register can't hold the sum, and where planes can't."""
    found: dict[str, tuple[Any, list[Any]]] = {}
    for n, (rows, outputs, inputs) in enumerate(DENSE):
        x = np.full((rows, inputs), -(2**15), np.int16)
        x[1:, ::7] = kit.i16(*x[1:, ::7].shape)
        weight = np.maximum(kit.i8(outputs, inputs, seed=n), -127)
        weight[0] = -127
        found[f"{inputs} to {outputs}"] = layer(kit, QDense, x, weight, 3, WIDE, np.int64)
    expect_exact(kit, found, isa, arm_gcc, tmp_path)


DEPTHWISE: dict[str, tuple[tuple[int, ...], tuple[int, int], dict[str, Any]]] = {
    "3 channels": ((1, 6, 7, 3), (3, 3), {}),
    "8": ((1, 9, 8, 8), (3, 3), {"padding": (1, 1, 1, 1)}),
    "19": ((2, 5, 9, 19), (3, 3), {"stride": (2, 2), "padding": (0, 0, 1, 1)}),
    "16": ((1, 7, 7, 16), (3, 3), {"dilation": (2, 3), "padding": (2, 2, 3, 3)}),
    "24": ((1, 7, 7, 24), (5, 5), {"padding": (2, 2, 2, 2)}),
    "one column": ((1, 12, 1, 20), (5, 1), {}),
    "pool": ((1, 7, 7, 21), (7, 7), {}),
    "long": ((1, 2, 45, 9), (2, 41), {}),
}


def depthwise(kit: Any) -> dict[str, tuple[Any, list[Any]]]:
    found: dict[str, tuple[Any, list[Any]]] = {}
    kinds = [(kit.i16, WIDE, np.int32), (kit.i16, MOVED, np.int64), (kit.i8, LIMITED, np.int32)]
    for n, (name, (x, kernel, window)) in enumerate(DEPTHWISE.items()):
        for k in (n, n + 1):
            values, q, bias = kinds[k % len(kinds)]
            weight = kit.i8(x[3], *kernel, 1, seed=n)
            operands = (values(*x, seed=n), weight, n + k, q, bias)
            found[f"{name} {k - n}"] = layer(kit, QConv2d, *operands, groups=x[3], **window)
    return found


@pytest.mark.few(1)
@each_set
def test_depthwise_layers_of_every_shape(kit: Any, isa: Isa, arm_gcc: str, tmp_path: Path) -> None:
    expect_exact(kit, depthwise(kit), isa, arm_gcc, tmp_path)


def elementwise(kit: Any) -> dict[str, tuple[Any, list[Any]]]:
    """Of lengths around vectors, with the largest terms."""
    found: dict[str, tuple[Any, list[Any]]] = {}
    results = [(WIDE, 0), (EIGHT, 0), (LIMITED, 3), (MOVED, -5)]
    scales = [(2**30 + 5, 39), (2**31 - 1, 31), (3, 1), (2**20 + 1, 62), (77, 0)]
    for n, length in enumerate((1, 7, 8, 19, 40)):
        q, origin = results[n % len(results)]
        x, y, small = kit.i16(length), kit.i16(length, seed=1), kit.i8(length, seed=2)
        x[:1], y[:1] = -(2**15), 2**15 - 1
        limits = {"zero_point": q.zero_point, "qmin": q.qmin, "qmax": q.qmax, "bits": q.bits}
        for k, (multiplier, shift) in enumerate(scales):
            scale = {"multiplier": multiplier, "shift": shift, "requantize": q}
            zeros = {"a_zero_point": 0, "b_zero_point": origin}
            terms = {"a_multiplier": multiplier, "b_multiplier": -(2**31 - 1), "shift": shift}
            name = f"{length} {k}"
            found[f"mul {name}"] = partial(QMul, **zeros, **scale), [x, small]
            found[f"rescale {name}"] = partial(QRescale, x_zero_point=0, **scale), [x]
            add = partial(QAddWide, a_zero_point=0, b_zero_point=0, **terms, **limits)
            found[f"add {name}"] = add, [x, y]
        for step_bits in (7, 4, 3):
            entries = kit.i16((1 << (16 - step_bits)) + 1).astype(np.int32) << 8
            curve = partial(Interpolate, step_bits=step_bits, **limits)
            found[f"curve {length} {step_bits}"] = curve, [x, kit.fixed(entries)]
    return found


@each_set
def test_elementwise_ops_of_every_length(kit: Any, isa: Isa, arm_gcc: str, tmp_path: Path) -> None:
    expect_exact(kit, elementwise(kit), isa, arm_gcc, tmp_path)


@given(
    sums=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=9),
    multiplier=st.integers(0, 2**31 - 1),
    shift=st.integers(1, 62),
)
def test_scales_in_32_bits_are_the_form_wide(sums: list[int], multiplier: int, shift: int) -> None:
    """What sqdmulh and srshl compute, where `in_words` says that they may."""
    m, s = doubled(np.array([multiplier], np.int32), np.array([shift], np.int32))
    x = np.array([-(2**31), 2**31 - 1, 0, *sums], np.int64)
    expected = requantize(x, *(np.array([n]) for n in (multiplier, shift)), WIDE)
    right = np.int64(-int(shifts_in_words(s)[0]))
    if not in_words(np.array([multiplier]), np.array([shift])):
        assert right < 1
        return
    high = (x * m) >> 31
    got = (high + (np.int64(1) << (right - 1))) >> right
    assert_array_equal(np.clip(got, WIDE.qmin, WIDE.qmax), expected)


def spec_of(inputs: int, channels: int, source: ir.IntType = I16) -> ProductSpec:
    one = Axis(1, 0, 0)
    return ProductSpec(
        groups=one, batch=one, rows=one, columns=Axis(9, 2 * inputs, 2 * channels), segments=(),
        length=inputs, channels=channels, source=source, sums=I32, result=I16, ceiling=False,
    )  # fmt: skip


def constants_of(spec: ProductSpec) -> LayerConstants:
    tables = (np.full(spec.channels, v, np.int32) for v in (5, 2**30, 40))
    weight = np.ones((1, spec.channels, 1, spec.length), np.int8)
    return LayerConstants(weight, *tables, None, WIDE, 0)


@pytest.mark.parametrize("source", [I8, I16], ids=str)
@pytest.mark.parametrize("channels", [1, 4, 10, 24, 100])
def test_the_variants_of_a_library_share_their_weights(channels: int, source: ir.IntType) -> None:
    spec = spec_of(37, channels, source)
    layer = constants_of(spec)
    plain = by_words(spec, layer, AARCH64)
    dots = by_planes(spec, layer, AARCH64_DOTPROD)
    kinds = (Planes if source == I8 else Words, Planes)
    assert (type(plain.sums), type(dots.sums)) == kinds
    assert_array_equal(plain.constants(layer)[0], dots.constants(layer)[0])


def test_products_are_those_that_the_set_has_and_the_layer_allows() -> None:
    spec = spec_of(37, 16, I8)
    layer = constants_of(spec)

    def products(kernel: TiledProducts) -> type:
        return type(kernel.sums.products) if isinstance(kernel.sums, Planes) else Words

    assert products(by_words(spec, layer, AARCH64)) is SmullPairs
    assert products(by_planes(spec, layer, AARCH64_DOTPROD)) is SdotRows
    assert products(by_matrices(spec, layer, AARCH64_I8MM)) is Smmla
    alone = replace(spec, columns=Axis(1, 0, 0))
    assert products(by_matrices(alone, layer, AARCH64_I8MM)) is SdotRows
    assert products(by_matrices(replace(alone, shared=True), layer, AARCH64_I8MM)) is Smmla
    least = replace(layer, weight=np.full_like(layer.weight, -128))
    assert products(by_words(spec, least, AARCH64)) is Words


def test_as_few_channels_as_can_be_are_computed_twice() -> None:
    assert [best_vectors(spec_of(64, n)) for n in (3, 4, 16, 24, 32, 40)] == [1, 1, 4, 3, 4, 2]
