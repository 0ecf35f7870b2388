"""Whole integer graphs: memory plan, borders, views and outputs do not disturb one another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    Concat,
    MaxPool2d,
    Op,
    QAdd,
    QConv2d,
    QDense,
    QReduceExtreme,
    Reduction,
    Reshape,
    Slice,
    Table,
    Transpose,
    ZeroStuff,
)
from qcomp.ir.tensor import DType, TensorId, TensorType
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.qparams import QParams
from qcomp.targets.cpu.lower.graph import lower_graph

ZERO = -11
Draw = Callable[[st.SearchStrategy[Any]], Any]


class Builder:
    """A graph whose tensors all have one zero point."""

    def __init__(self, kit: Any, shape: tuple[int, ...]) -> None:
        self.kit, self.graph, self.count = kit, Graph("random"), 0
        self.inputs: dict[str, Any] = {}
        self.tensors = [self.input(shape)]

    def input(self, shape: tuple[int, ...]) -> TensorId:
        name = f"x{len(self.inputs)}"
        self.inputs[name] = self.kit.i8(*shape, seed=len(self.inputs))
        return self.graph.add_input(name, TensorType(DType.I8, shape))

    def add(self, make: Callable[..., Op], *inputs: TensorId, **fields: Any) -> TensorId:
        self.count += 1
        id = self.graph.add_op(make(inputs=inputs, output=f"t{self.count}", **fields))
        self.tensors.append(id)
        return id

    def shape(self, id: TensorId) -> tuple[int, ...]:
        return self.graph.type(id).shape

    def constant(self, array: Any) -> TensorId:
        return self.graph.add_constant("c", np.asarray(array))

    def linear(self, make: Callable[..., Op], x: TensorId, weight: Any, **fields: Any) -> TensorId:
        outputs = len(weight)
        constants = [weight] + [np.full(outputs, v, np.int32) for v in (70, 290, 4)]
        q = Requantize(Form.NARROW, ZERO)
        operands = map(self.constant, constants)
        return self.add(make, x, *operands, x_zero_point=ZERO, requantize=q, **fields)

    def table(self, x: TensorId) -> TensorId:
        return self.add(Table, x, self.constant(self.kit.i8(256, seed=self.count)))

    def sum(self, a: TensorId, b: TensorId) -> TensorId:
        fields = {"a_multiplier": 400, "b_multiplier": 500, "fraction_bits": 2}
        return self.add(QAdd, a, b, a_zero_point=ZERO, b_zero_point=ZERO, zero_point=ZERO, **fields)

    def conv(self, x: TensorId, outputs: int, size: int, padding: Any, groups: int = 1) -> TensorId:
        depth = self.shape(x)[3] // groups
        weight = np.maximum(self.kit.i8(outputs, size, size, depth, seed=self.count), -127)
        return self.linear(QConv2d, x, weight, padding=padding, groups=groups)

    def copies(self, tensor: TensorId) -> int:
        """How often the target moves data to compute a tensor."""
        calls = lower_graph(self.graph, self.kit.isas[-1], "net").calls
        return sum(call.op == tensor and "_border_" not in call.kernel for call in calls)

    def check(self, *outputs: TensorId, isas: Any = None) -> None:
        for n, id in enumerate(outputs):
            self.graph.outputs[f"y{n}"] = id
        self.graph.sweep()
        for tensor in self.graph.tensors():
            if not tensor.is_constant and tensor.type.dtype is DType.I8:
                self.graph.update_tensor(replace(tensor, qparams=QParams(0.25, ZERO)))
        self.kit.check_graph(self.graph, self.inputs, isas)


@pytest.fixture
def image(kit: Any) -> Builder:
    return Builder(kit, (1, 6, 7, 5))


def test_a_residual_block_with_different_paddings(image: Builder) -> None:
    (x,) = image.tensors
    y = image.conv(x, 5, 3, (1, 1, 1, 1))
    z = image.conv(y, 5, 3, (1, 1, 1, 1), groups=5)
    image.check(image.conv(image.sum(image.sum(z, y), x), 9, 5, (2, 2, 2, 2)), z)


def test_an_input_may_be_an_output(image: Builder) -> None:
    (x,) = image.tensors
    image.check(x, image.table(x))


def test_an_input_that_a_padded_convolution_reads_may_be_an_output(image: Builder) -> None:
    (x,) = image.tensors
    image.check(image.conv(x, 3, 3, (1, 1, 1, 1)), x)


def test_one_tensor_may_be_several_outputs(image: Builder) -> None:
    y = image.table(image.tensors[0])
    image.check(y, y, image.table(y))


def test_a_constant_may_be_an_operand_and_another_graph_output(image: Builder) -> None:
    y = image.table(image.tensors[0])
    c = image.constant(image.kit.i8(1, 6, 7, 5, seed=9))
    image.check(image.sum(c, y), image.sum(y, c))


def test_views_keep_their_source_alive(image: Builder) -> None:
    y = image.table(image.tensors[0])
    flat = image.add(Reshape, y, shape=(1, 210))
    other = image.table(image.tensors[0])
    junk = image.sum(image.table(other), other)
    image.check(image.table(flat), image.table(junk), y, flat)


def test_a_view_of_an_input(image: Builder) -> None:
    flat = image.add(Reshape, image.tensors[0], shape=(210,))
    image.check(flat, image.table(flat))


def test_a_view_of_a_bordered_tensor_is_a_copy(image: Builder) -> None:
    y = image.table(image.tensors[0])
    conv = image.conv(y, 4, 3, (1, 1, 1, 1))
    flat = image.add(Reshape, y, shape=(6, 35))
    image.check(image.table(flat), conv)


def test_a_view_between_two_bordered_tensors(image: Builder) -> None:
    y = image.table(image.tensors[0])
    turned = image.add(Reshape, y, shape=(1, 7, 6, 5))
    image.check(image.conv(y, 4, 3, (1, 1, 1, 1)), image.conv(turned, 4, 3, (0, 2, 1, 0)))


def test_dense_after_a_bordered_tensor(image: Builder) -> None:
    y = image.table(image.tensors[0])
    weight = image.kit.i8(10, 5, seed=3) | 1
    image.check(image.conv(y, 4, 3, (1, 1, 1, 1)), image.linear(QDense, y, weight))


def test_a_dense_result_that_a_padded_convolution_reads(image: Builder) -> None:
    y = image.linear(QDense, image.tensors[0], image.kit.i8(6, 5, seed=3) | 1)
    image.check(image.conv(y, 4, 3, (1, 1, 1, 1)))


def test_operands_are_written_into_their_concatenation(image: Builder) -> None:
    """As in a fire module; one operand has a padded reader of its own, and so has the result."""
    (x,) = image.tensors
    a, c = image.conv(x, 16, 1, (0, 0, 0, 0)), image.conv(x, 7, 3, (1, 1, 1, 1))
    joined = image.add(Concat, a, c, axis=3)
    image.check(image.conv(joined, 5, 3, (1, 1, 1, 1)), image.conv(c, 3, 5, (2, 2, 2, 2)))
    assert not image.copies(joined)


def test_a_concatenation_of_concatenations_needs_no_copies(image: Builder) -> None:
    (x,) = image.tensors
    a, c = image.conv(x, 5, 3, (1, 1, 1, 1)), image.table(x)
    first = image.add(Concat, a, c, axis=3)
    d = image.conv(first, 6, 3, (1, 1, 1, 1))
    second = image.add(Concat, first, d, axis=3)
    image.check(image.conv(second, 5, 3, (2, 2, 2, 2)), image.table(first))
    assert not image.copies(first)
    assert not image.copies(second)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_concatenation_of_other_axes(image: Builder, axis: int) -> None:
    """Neighbouring rows leave no room for a border between them."""
    (x,) = image.tensors
    a, c = image.table(x), image.table(x)
    joined = image.add(Concat, a, c, axis=axis)
    image.check(image.conv(joined, 5, 3, (1, 1, 1, 1)), image.conv(c, 3, 3, (1, 1, 1, 1)))


def test_operands_that_can_not_be_written_into_their_concatenation(image: Builder) -> None:
    (x,) = image.tensors
    a, c = image.table(x), image.table(x)
    flat = image.add(Reshape, a, shape=(1, 210))
    twice = image.add(Concat, a, a, x, axis=3)
    again = image.add(Concat, c, image.constant(image.kit.i8(1, 6, 7, 2)), c, axis=3)
    image.check(image.table(twice), image.table(again), flat, image.add(Concat, c, x, axis=2))


def test_slices_are_views(image: Builder) -> None:
    """Also where both halves of the channels go on, and come together again."""
    y = image.table(image.tensors[0])
    parts = [
        image.add(Slice, y, starts=(0, 0, 0, c), sizes=(1, 6, 7, n), steps=(1, 1, 1, 1))
        for c, n in ((0, 2), (2, 3))
    ]
    rows = image.add(Slice, y, starts=(0, 1, 2, 0), sizes=(1, 4, 3, 5), steps=(1, 1, 1, 1))
    joined = image.add(Concat, parts[1], image.table(parts[0]), axis=3)
    image.check(image.conv(joined, 5, 3, (1, 1, 1, 1)), image.table(rows))
    assert not any(image.copies(part) for part in (*parts, rows))


@pytest.mark.sweep(40)
@given(data=st.data())
def test_random_graphs(kit: Any, data: st.DataObject) -> None:
    draw = data.draw
    b = Builder(kit, (draw(st.integers(1, 2)), 6, 6, draw(st.sampled_from([1, 3, 8, 17]))))
    for _ in range(draw(st.integers(1, 8))):
        _grow(b, draw)
    outputs = draw(st.lists(st.sampled_from(b.tensors), min_size=1, max_size=4))
    b.check(*outputs, b.tensors[-1], isas=[draw(st.sampled_from(kit.isas))])


def _grow(b: Builder, draw: Draw) -> None:
    """One more op on some tensor so far."""
    x = draw(st.sampled_from(b.tensors[-4:]))
    same = [t for t in b.tensors if b.shape(t) == b.shape(x)]
    n, h, w, c = b.shape(x)
    padding = draw(st.tuples(*[st.integers(0, 2)] * 4))
    size = draw(st.integers(1, min(3, h, w)))
    match draw(st.integers(0, 12)):
        case 0:
            b.table(x)
        case 1:
            b.sum(x, draw(st.sampled_from(same)))
        case 2 | 3:
            b.conv(x, draw(st.integers(1, 20)), size, padding)
        case 4:
            b.conv(x, c, size, padding, groups=c)
        case 5:
            b.add(MaxPool2d, x, kernel=(size, size), padding=padding)
        case 6:
            b.add(Concat, x, draw(st.sampled_from(same)), axis=draw(st.integers(1, 3)))
        case 7:
            b.add(Reshape, x, shape=(n, w, c, h))
        case 8:
            b.add(Transpose, x, permutation=(0, 3, 1, 2))
        case 9:
            axis = draw(st.integers(1, 3))
            b.add(QReduceExtreme, x, kind=Reduction.MAX, axes=(axis,), keepdims=True)
        case 10:
            box = [draw(st.tuples(st.integers(0, e - 1), st.integers(1, 9))) for e in (n, h, w, c)]
            sizes = [min(size, e - a) for (a, size), e in zip(box, (n, h, w, c), strict=True)]
            starts = tuple(a for a, _ in box)
            b.add(Slice, x, starts=starts, sizes=tuple(sizes), steps=(1, 1, 1, 1))
        case 11:
            stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
            zeros = b.add(ZeroStuff, x, stride=stride, value=draw(st.sampled_from([ZERO, 0.0])))
            if h * w < 200:
                b.conv(zeros, draw(st.integers(1, 20)), size, padding)
        case 12:
            groups = draw(st.sampled_from([g for g in range(1, c + 1) if c % g == 0]))
            b.conv(x, groups * draw(st.integers(1, 4)), size, padding, groups=groups)
