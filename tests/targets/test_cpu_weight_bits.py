"""Weights of 4, 2 and 1 bits are stored in as many, and kernels that unpack them are exact."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from qcomp.ir.graph import Graph
from qcomp.ir.ops import QConv2d, QDense, QWeighted
from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu.kernels.axis import Axis
from qcomp.targets.cpu.kernels.codes import gain, in_rows, multiplied
from qcomp.targets.cpu.kernels.gemm import BY_FOURS, GemmSpec, pack_weights, with_joined_ends
from qcomp.targets.cpu.lower.graph import lower_graph
from qcomp.targets.cpu.lower.weight_bits import coding, fewest_code_bits
from tests.targets.test_cpu_amx import code_for_amx, emulated, x86_only
from tests.targets.test_cpu_ceiling import network as bounded
from tests.targets.test_cpu_linear import epilogue
from tests.targets.test_cpu_lookup import activated
from tests.targets.test_cpu_residual import block

BITS = [4, 2, 1]
SHAPES: list[tuple[tuple[int, ...], int, tuple[int, int], dict[str, Any]]] = [
    ((1, 5, 7, 16), 16, (1, 1), {}),
    ((2, 4, 7, 36), 33, (1, 1), {"stride": (1, 2)}),  # nine steps: a row is not full
    ((1, 6, 7, 17), 20, (3, 3), {"padding": (1, 1, 1, 1)}),  # ends that stay
    ((1, 7, 8, 3), 8, (3, 3), {"padding": (1, 0, 1, 1)}),  # ends that are joined
    ((1, 5, 6, 24), 24, (3, 3), {"groups": 6, "padding": (1, 1, 1, 1)}),  # lanes are mixed
    ((1, 4, 5, 32), 24, (1, 1), {"groups": 2}),
    ((1, 9, 9, 8), 40, (3, 2), {"dilation": (2, 1)}),
]


def few(shape: tuple[int, ...], bits: int, seed: int = 0) -> Any:
    """Integers of a grid, every one possible."""
    random = np.random.default_rng([seed, bits, *shape])
    if bits == 1:
        return random.choice(np.array([-1, 1], np.int8), shape)
    largest = 2 ** (bits - 1) - 1
    return random.integers(-largest, largest + 1, shape).astype(np.int8)


def tables(form: Form, outputs: int, depth: int, bits: int) -> tuple[Any, list[Any]]:
    """As `epilogue`, of sums that are smaller by the weights."""
    q, (bias, multiplier, shift) = epilogue(form, outputs, depth)
    smaller = shift - {4: 4, 2: 6, 1: 6}[bits]
    if form is Form.NARROW:
        smaller = np.maximum(smaller, 0)
    return q, [bias // 16, multiplier, smaller.astype(np.int32)]


def layer(kit: Any, make: Any, weight: Any, x: Any, form: Form, **fields: Any) -> Any:
    """A graph of one layer, and its input; the weights have few bits."""
    bits = 4 if np.abs(weight).max() > 1 else 1 if weight.all() else 2
    q, parameters = tables(form, len(weight), weight[0].size, bits)
    op = partial(make, x_zero_point=-5, requantize=q, **fields)
    return kit.one_op(op, x, *map(kit.fixed, (weight, *parameters)), zero_point=-5)


def narrowed(graph: Graph, bits: int) -> Graph:
    """The graph with other weights."""
    for op in graph.ops():
        if isinstance(op, QWeighted):
            tensor = graph.tensor(op.weight)
            weight = few(tensor.type.shape, bits)
            weight.flags.writeable = False
            graph.update_tensor(replace(tensor, data=weight))
    return graph


@given(bits=st.sampled_from([8, *BITS]), steps=st.integers(0, 20), seed=st.integers(0, 5))
def test_rows_hold_every_step_once(bits: int, steps: int, seed: int) -> None:
    weights = few((3, steps, 64), bits, seed)
    rows = in_rows(weights, bits)
    assert rows.shape == (3, -(-steps * bits // 8), 64)
    assert_array_equal(multiplied(rows, bits)[:, :steps], weights.astype(int) << gain(bits))


def test_the_first_step_is_in_the_lowest_bits() -> None:
    nibbles = np.array([[1], [-7], [-1]], np.int8)
    assert in_rows(nibbles, 4).view(np.uint8).tolist() == [[0x91], [0x0F]]
    assert in_rows(np.array([[1], [-1], [0], [1]], np.int8), 2).tolist() == [[0b01_00_11_01]]
    assert in_rows(np.array([[1], [-1], [-1]], np.int8), 1).tolist() == [[0b110]]


@pytest.mark.parametrize("bits", [8, *BITS])
@pytest.mark.parametrize(
    ("segments", "length"), [(((3, 100),), 9), ((), 36), (((3, 9), (3, 5)), 4)]
)
def test_layers_take_the_bytes_that_their_kernels_step_over(
    segments: Any, length: int, bits: int
) -> None:
    axis = Axis(1, 0, 0)
    plain = GemmSpec(axis, axis, axis, axis, segments, length, 17, Form.NARROW, BY_FOURS)
    for spec in (plain, with_joined_ends(plain) or plain):
        spec = replace(spec, weight_bits=bits)
        packed = pack_weights(few((17, spec.segment_count, length), bits), spec)
        assert packed.size == spec.panels * spec.panel_bytes
        assert packed.size * 8 <= 128 * (bits * spec.all_steps + 8 * (spec.segment_count + 1))


@pytest.mark.parametrize("bits", BITS)
def test_convolutions_on_every_instruction_set(kit: Any, isa: Any, bits: int) -> None:
    """All of 4 bits, every second one of 2 and of 1."""
    chosen = {4: SHAPES, 2: SHAPES[1::2], 1: SHAPES[::2]}[bits]
    for n, (shape, outputs, kernel, window) in enumerate(chosen):
        form = Form.WIDE if n % 3 == 1 else Form.NARROW
        weight = few((outputs, *kernel, shape[3] // window.get("groups", 1)), bits)
        graph, inputs = layer(kit, QConv2d, weight, kit.i8(*shape), form, **window)
        kit.check_graph(graph, inputs, [isa])


@pytest.mark.parametrize("bits", BITS)
def test_dense_layers_on_every_instruction_set(kit: Any, isa: Any, bits: int) -> None:
    for shape, outputs in (((1, 100), 130), ((2, 5, 33), 40)):
        weight = few((outputs, shape[-1]), bits)
        kit.check_graph(*layer(kit, QDense, weight, kit.i8(*shape), Form.NARROW), [isa])


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("value", [-128, 127])
def test_sums_of_extremes_are_exact(kit: Any, value: int, bits: int) -> None:
    x = np.full((1, 3, 3, 64), value, np.int8)
    for sign in (-1, 1):
        weight = np.full((16, 1, 1, 64), sign * max(1, 2 ** (bits - 1) - 1), np.int8)
        kit.check_graph(*layer(kit, QConv2d, weight, x, Form.WIDE))


@x86_only
@pytest.mark.parametrize("bits", BITS)
def test_tiles_are_unpacked_for_each_block_of_channels(kit: Any, bits: int) -> None:
    for shape, outputs, kernel in (((2, 9, 8, 68), 80, (3, 3)), ((1, 7, 9, 132), 33, (1, 1))):
        weight = few((outputs, *kernel, shape[3]), bits)
        graph, inputs = layer(kit, QConv2d, weight, kit.i8(*shape), Form.NARROW)
        assert "tdpbusd" in code_for_amx(graph)
        kit.check_graph(graph, inputs, [emulated()])


@x86_only
def test_weights_that_the_stack_can_not_hold_are_multiplied_in_vectors(kit: Any) -> None:
    for depth, in_tiles in ((4096, True), (4160, False)):
        graph, _ = layer(kit, QDense, few((16, depth), 4), kit.i8(16, depth), Form.WIDE)
        assert ("tdpbusd" in code_for_amx(graph)) == in_tiles


@pytest.mark.parametrize("bits", BITS)
def test_what_is_fused_does_not_know_of_it(kit: Any, bits: int) -> None:
    best = kit.isas[-1:]
    graph, inputs = block(kit, 5, 24, 3, relu=True)
    kit.check_graph(narrowed(graph, bits), inputs, best)
    graph = narrowed(bounded("conv", np.arange(21, dtype=np.int8).reshape(1, 1, 1, 21)), bits)
    kit.check_graph(graph, {"x": kit.i8(1, 9, 11, 21)}, best)
    graph, inputs = activated(kit, 5, 24, 33)
    kit.check_graph(narrowed(graph, bits), inputs, best)


def dense(weight: Any, bias: int, shift: int, form: Form = Form.NARROW) -> Any:
    values = (bias, 2**30 if form is Form.WIDE else 300, shift)
    return coding(weight, [np.full(len(weight), v, np.int32) for v in values], form)


def test_integers_say_in_how_many_bits_they_are_stored() -> None:
    for largest, bits in ((127, 8), (9, 8), (7, 4), (3, 4), (1, 2)):
        assert dense(np.array([[0, largest, -1]], np.int8), 5, 3).bits == bits
    assert dense(np.array([[1, -1], [1, 1]], np.int8), 5, 3).bits == 1


def test_sums_that_might_not_fit_keep_eight_bits() -> None:
    weight = np.full((2, 100), 7, np.int8)
    most = (2**31 - 1 >> 4) - 255 * 700
    assert [dense(weight, sign * most, 3).bits for sign in (1, -1)] == [4, 4]
    assert [dense(weight, sign * (most + 1), 3).bits for sign in (1, -1)] == [8, 8]


def test_ternary_sums_that_fit_four_bits_only_take_four() -> None:
    assert dense(np.array([[1, 0, -1]], np.int8), 2**26, 3).bits == 4


def test_shifts_that_kernels_lack_keep_eight_bits() -> None:
    weight = np.full((2, 100), 7, np.int8)
    for form, most in ((Form.NARROW, 31), (Form.WIDE, 62)):
        assert [dense(weight, 5, shift, form).bits for shift in (most - 4, most - 3)] == [4, 8]


def test_forms_that_round_twice_keep_eight_bits(kit: Any) -> None:
    weight = few((16, 64), 4)
    assert dense(weight, 5, -3, Form.TFLITE).bits == 8
    kit.check_graph(*layer(kit, QDense, weight, kit.i8(1, 64), Form.TFLITE))


def test_channels_without_weights_may_have_any_bias(kit: Any) -> None:
    weight = few((16, 64), 4)
    weight[3] = 0
    bias, multiplier, shift = (np.full(16, v, np.int32) for v in (100, 300, 2))
    bias[3], shift[3] = 2**30 - 7, 24
    found = coding(weight, [bias, multiplier, shift], Form.NARROW)
    assert (found.bits, found.gains[3], found.gains[4]) == (4, 0, 4)
    q, _ = epilogue(Form.NARROW, 16, 64)
    op = partial(QDense, x_zero_point=-5, requantize=q)
    constants = map(kit.fixed, (weight, bias, multiplier, shift))
    kit.check(op, kit.i8(1, 64), *constants, zero_point=-5)


def test_channels_may_be_powers_of_two_times_codes(kit: Any) -> None:
    weight = few((16, 64), 4) << (np.arange(16) % 5).astype(np.int8)[:, None]
    graph, inputs = layer(kit, QDense, weight, kit.i8(1, 64), Form.WIDE)
    (op,) = graph.ops()
    assert isinstance(op, QDense)
    parameters = [graph.data(t) for t in (op.bias, op.multiplier, op.shift)]
    found = coding(weight, parameters, Form.WIDE)
    assert found.bits == 4
    assert_array_equal(found.codes(weight[None]) << found.powers[None, :, None], weight[None])
    kit.check_graph(graph, inputs)


@pytest.mark.parametrize(("bits", "most"), [(4, 0.55), (2, 0.3), (1, 0.2)])
def test_fewer_bits_are_fewer_bytes(kit: Any, bits: int, most: float) -> None:
    def stored(weight: Any) -> int:
        graph, _ = layer(kit, QDense, weight, kit.i8(1, 512), Form.WIDE)
        return lower_graph(graph, kit.isas[0], "net").data.size

    assert stored(few((256, 512), bits)) <= most * stored(np.maximum(kit.i8(256, 512), -127))


@pytest.mark.parametrize(("limit", "bits"), [(127, 8), (7, 4)])
def test_counting_bits_takes_little_more_memory_than_the_weights(limit: int, bits: int) -> None:
    weight = np.random.default_rng(1).integers(-limit, limit, (256, 4096), np.int8, endpoint=True)
    tracemalloc.start()
    assert fewest_code_bits(weight) == bits
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * weight.nbytes
