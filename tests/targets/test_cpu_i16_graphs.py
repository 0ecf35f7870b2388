"""Movements of 16 bits, and whole graphs in which tensors of 8 and of 16 bits meet."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    BlockOrder,
    BroadcastTo,
    Concat,
    DepthToSpace,
    Gather,
    MaxPool2d,
    Op,
    Pad,
    PadMode,
    QAdd,
    QAddWide,
    QConv2d,
    QDense,
    QMinimum,
    QRescale,
    Reshape,
    Slice,
    SpaceToDepth,
    Table,
    Tile,
    Transpose,
    ZeroStuff,
)
from qcomp.ir.tensor import DType, TensorId, TensorType
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.qparams import QParams

SHAPE = (2, 5, 6, 19)
ZERO = -11
WHOLE = QParams(0.25, 0, -(2**15), 2**15 - 1)


@pytest.mark.parametrize(
    "move",
    [
        partial(Reshape, shape=(60, 19)),
        partial(Reshape, shape=(2, 30, 1, 19)),
        partial(Transpose, permutation=(0, 3, 1, 2)),
        partial(Transpose, permutation=(0, 2, 1, 3)),
        partial(Slice, starts=(0, 1, 2, 3), sizes=(2, 3, 2, 16), steps=(1, 1, 1, 1)),
        partial(Slice, starts=(1, 4, 5, 18), sizes=(2, 5, 3, 9), steps=(-1, -1, -2, -2)),
        partial(Pad, before=(0, 1, 2, 0), after=(0, 3, 0, 1), value=-7000),
        partial(Pad, before=(0, 1, 2, 0), after=(0, 3, 0, 1), mode=PadMode.REFLECT),
        partial(BroadcastTo, shape=(3, *SHAPE)),
        partial(Tile, repeats=(1, 2, 1, 3)),
        partial(SpaceToDepth, block=1, order=BlockOrder.DCR),
        partial(ZeroStuff, stride=(2, 3), value=0),
    ],
    ids=str,
)
def test_movements(kit: Any, isa: Any, move: Any) -> None:
    kit.check(move, kit.i16(*SHAPE), borders=True, isas=[isa])


@pytest.mark.parametrize("order", list(BlockOrder), ids=lambda o: o.value)
def test_blocks_and_indices(kit: Any, order: BlockOrder) -> None:
    kit.check(partial(DepthToSpace, block=2, order=order), kit.i16(1, 3, 4, 20), borders=True)
    kit.check(partial(SpaceToDepth, block=2, order=order), kit.i16(1, 6, 4, 5), borders=True)
    kit.check(partial(Gather, axis=2), kit.i16(*SHAPE), kit.fixed(np.array([3, 0, 3, 5])))


@pytest.mark.parametrize("axis", range(4))
def test_concatenations(kit: Any, axis: int) -> None:
    parts = []
    for seed, extent in enumerate((3, 16, 1)):
        shape = list(SHAPE)
        shape[axis] = extent
        parts.append(kit.i16(*shape, seed=seed))
    kit.check(partial(Concat, axis=axis), *parts, borders=True)
    kit.check(partial(Concat, axis=axis), parts[0], kit.fixed(parts[1]))


class Builder:
    """A graph whose tensors have one zero point, those of 16 bits none."""

    def __init__(self, kit: Any, shape: tuple[int, ...], bits: int = 8) -> None:
        self.kit, self.graph, self.count = kit, Graph("mixed"), 0
        self.inputs = {"x": kit.i8(*shape) if bits == 8 else kit.i16(*shape)}
        type = TensorType(DType.activation(bits), shape)
        self.tensors = [self.graph.add_input("x", type)]

    def add(self, make: Any, *inputs: TensorId, **fields: Any) -> TensorId:
        self.count += 1
        op: Op = make(inputs=inputs, output=f"t{self.count}", **fields)
        id = self.graph.add_op(op)
        self.tensors.append(id)
        return id

    def constant(self, array: Any) -> TensorId:
        return self.graph.add_constant("c", np.asarray(array))

    def bits(self, x: TensorId) -> int:
        return 8 * self.graph.type(x).dtype.bytes

    def shape(self, x: TensorId) -> tuple[int, ...]:
        return self.graph.type(x).shape

    def zero(self, bits: int) -> int:
        return ZERO if bits == 8 else 0

    def linear(self, make: Any, x: TensorId, weight: Any, bits: int, **fields: Any) -> TensorId:
        narrow = self.bits(x) == bits == 8
        scaling = (290, 4) if narrow else (2**30, 37 + self.bits(x) - bits)
        limits = (-128, 127) if bits == 8 else (-(2**15), 2**15 - 1)
        form = Form.NARROW if narrow else Form.WIDE
        q = Requantize(form, self.zero(bits), *limits, bits)
        dtype = np.int64 if self.bits(x) == 16 else np.int32
        tables = [
            np.full(len(weight), 70, dtype),
            *(np.full(len(weight), n, np.int32) for n in scaling),
        ]
        operands = map(self.constant, [weight, *tables])
        zero = self.zero(self.bits(x))
        return self.add(make, x, *operands, x_zero_point=zero, requantize=q, **fields)

    def conv(
        self, x: TensorId, outputs: int, size: int, bits: int, groups: int = 1, pad: int = -1
    ) -> TensorId:
        depth = self.shape(x)[3] // groups
        weight = np.maximum(self.kit.i8(outputs, size, size, depth, seed=self.count), -127)
        padding = (size // 2 if pad < 0 else pad,) * 4
        return self.linear(QConv2d, x, weight, bits, padding=padding, groups=groups)

    def rescale(self, x: TensorId, bits: int) -> TensorId:
        limits = (-128, 127) if bits == 8 else (-(2**15), 2**15 - 1)
        q = Requantize(Form.WIDE, self.zero(bits), *limits, bits)
        shift = 30 + self.bits(x) - bits
        zero = self.zero(self.bits(x))
        return self.add(QRescale, x, x_zero_point=zero, multiplier=2**30, shift=shift, requantize=q)

    def sum(self, a: TensorId, b: TensorId, bits: int) -> TensorId:
        points = {"a_zero_point": self.zero(self.bits(a)), "b_zero_point": self.zero(self.bits(b))}
        points["zero_point"] = self.zero(bits)
        if {self.bits(a), self.bits(b), bits} == {8}:
            fields = {"a_multiplier": 400, "b_multiplier": 500, "fraction_bits": 2}
            return self.add(QAdd, a, b, **points, **fields)
        limits = (-128, 127) if bits == 8 else (-(2**15), 2**15 - 1)
        multipliers = {
            f"{name}_multiplier": 1 << (38 - self.bits(x)) for name, x in (("a", a), ("b", b))
        }
        return self.add(
            QAddWide, a, b, **points, **multipliers, shift=39 - bits, qmin=limits[0],
            qmax=limits[1], bits=bits,
        )  # fmt: skip

    def check(self, *outputs: TensorId, isas: Any = None) -> None:
        for n, id in enumerate(outputs):
            self.graph.outputs[f"y{n}"] = id
        self.graph.sweep()
        for tensor in self.graph.tensors():
            if not tensor.is_constant and tensor.type.dtype in (DType.I8, DType.I16):
                q = QParams(0.25, ZERO) if tensor.type.dtype is DType.I8 else WHOLE
                self.graph.update_tensor(replace(tensor, qparams=q))
        self.kit.check_graph(self.graph, self.inputs, isas)


def test_a_residual_block_that_leaves_and_comes_back(kit: Any, isa: Any) -> None:
    """Every fusion of i8 layers has a neighbour of 16 bits that it must leave alone."""
    net = Builder(kit, (1, 6, 7, 16))
    (x,) = net.tensors
    y = net.conv(x, 16, 3, 16)
    z = net.conv(y, 16, 3, 8, groups=16)
    s = net.sum(z, x, 8)
    t = net.add(Table, net.conv(s, 16, 1, 8), net.constant(kit.i16(256)))
    u = net.conv(t, 16, 1, 8)
    m = net.add(QMinimum, u, net.constant(kit.i8(16, seed=3)))
    wide = net.conv(m, 16, 1, 16)
    n = net.add(QMinimum, wide, net.constant(kit.i16(16, seed=4)), qmin=-128, qmax=127)
    net.check(net.sum(n, y, 16), net.sum(wide, s, 8), isas=[isa])


def test_inputs_and_outputs_of_16_bits(kit: Any, isa: Any) -> None:
    net = Builder(kit, (2, 5, 6, 9), bits=16)
    (x,) = net.tensors
    pooled = net.add(MaxPool2d, x, kernel=(2, 2))
    net.check(x, pooled, net.conv(x, 5, 3, 16), net.rescale(pooled, 8), isas=[isa])


def test_views_of_16_bits(kit: Any, isa: Any) -> None:
    """Parts of a concatenation with a border, a slice and a reshape of it."""
    net = Builder(kit, (1, 6, 7, 8))
    (x,) = net.tensors
    parts = [net.conv(x, n, 1, 16) for n in (5, 8, 3)]
    joined = net.add(Concat, *parts, axis=3)
    part = net.add(Slice, joined, starts=(0, 1, 2, 3), sizes=(1, 4, 5, 9), steps=(1, 1, 1, 1))
    flat = net.add(Reshape, net.conv(part, 6, 3, 16), shape=(1, 120))
    weight = np.maximum(kit.i8(10, 120), -127)
    net.check(net.conv(joined, 4, 3, 8), net.linear(QDense, flat, weight, 16), isas=[isa])


@pytest.mark.parametrize("stride", [(2, 2), (3, 1)], ids=str)
def test_transposed_convolutions(kit: Any, isa: Any, stride: tuple[int, int]) -> None:
    net = Builder(kit, (1, 4, 5, 6), bits=16)
    (x,) = net.tensors
    zeros = net.add(ZeroStuff, x, stride=stride, value=0)
    more = net.add(ZeroStuff, x, stride=stride, value=0)
    deep = net.conv(more, 6, 4, 8, groups=6, pad=2)
    net.check(net.conv(zeros, 7, 3, 16, pad=1), deep, isas=[isa])


@pytest.mark.sweep(30)
@given(data=st.data())
def test_random_mixed_graphs(kit: Any, data: st.DataObject) -> None:
    draw = data.draw
    net = Builder(kit, (1, 6, 5, draw(st.sampled_from([3, 8, 17]))), draw(st.sampled_from([8, 16])))
    for _ in range(draw(st.integers(1, 8))):
        x, bits = draw(st.sampled_from(net.tensors)), draw(st.sampled_from([8, 16]))
        alike = [t for t in net.tensors if net.shape(t) == net.shape(x)]
        match draw(st.sampled_from(["conv", "depthwise", "sum", "rescale", "pool", "concat"])):
            case "conv":
                net.conv(x, draw(st.sampled_from([3, 8, 17])), draw(st.sampled_from([1, 3])), bits)
            case "depthwise" if net.shape(x)[3] > 1:
                net.conv(x, net.shape(x)[3], 3, bits, groups=net.shape(x)[3])
            case "sum":
                net.sum(x, draw(st.sampled_from(alike)), bits)
            case "pool":
                net.add(MaxPool2d, x, kernel=(3, 3), padding=(1, 1, 1, 1))
            case "concat":
                same = [t for t in alike if net.bits(t) == net.bits(x)]
                net.add(Concat, x, draw(st.sampled_from(same)), axis=3)
            case _:
                net.rescale(x, bits)
    outputs = draw(st.lists(st.sampled_from(net.tensors), min_size=1, max_size=3))
    net.check(*outputs, net.tensors[-1], isas=[draw(st.sampled_from(kit.isas))])
