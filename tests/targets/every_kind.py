"""Ops of every kind of kernel, and one graph of several: a program for an emulator."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    ArgMax,
    Interpolate,
    MaxPool2d,
    Op,
    PairTable,
    QAdd,
    QAddWide,
    QAveragePool2d,
    QConv2d,
    QDense,
    QLogSoftmax,
    QMatMul,
    QMul,
    QReduceSum,
    QRescale,
    QSoftmax,
    Resize2d,
    ResizeMode,
    Table,
    Transpose,
)
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.tables import exp_table, exp_table_16, log_softmax_constants, log_table


def linear(kit: Any, make: Any, form: Form, weight: Any, **fields: Any) -> tuple[Any, list[Any]]:
    multiplier, shift = {
        Form.NARROW: (700, 6),
        Form.WIDE: (2**30 + 7, 43),
        Form.TFLITE: (2**30 + 7, -11),
    }[form]
    outputs = len(weight)
    tables = [np.full(outputs, v, np.int32) for v in (99, multiplier, shift)]
    op = partial(make, x_zero_point=0, requantize=Requantize(form, -3), **fields)
    return op, [kit.fixed(a) for a in (weight, *tables)]


def cases(kit: Any) -> dict[str, tuple[Any, list[Any]]]:
    """An op and its operands."""
    pair = {"a_zero_point": -7, "b_zero_point": 100}
    wide = {"multiplier": 2**30 + 5, "shift": 39, "requantize": Requantize(Form.WIDE, 4)}
    x = kit.i8(2, 9, 10, 19)
    multiplier, shift, units = log_softmax_constants(0.05, 0.07)
    log = {"multiplier": multiplier, "shift": shift, "zero_point": 120}
    log_tables = [kit.fixed(exp_table(0.05)), kit.fixed(log_table(units))]
    result = narrow_cases(kit)
    for form in (Form.NARROW, Form.WIDE, Form.TFLITE):
        padding = {"padding": (1, 1, 1, 1)}
        op, constants = linear(kit, QConv2d, form, kit.i8(33, 3, 3, 19) | 1, **padding)
        result[f"conv {form.value}"] = op, [x, *constants]
    for bits, weight in ((4, kit.i8(33, 3, 3, 19) >> 5), (2, kit.i8(33, 3, 3, 19) >> 6 | 1)):
        op, constants = linear(kit, QConv2d, Form.NARROW, weight, padding=(1, 1, 1, 1))
        result[f"conv of {bits} bits"] = op, [x, *constants]
    least = np.full((9, 1, 1, 37), -128, np.int8)
    op, constants = linear(kit, QConv2d, Form.NARROW, least)
    result["the most negative products"] = op, [np.full((1, 3, 5, 37), -128, np.int8), *constants]
    op, constants = linear(kit, QDense, Form.WIDE, np.sign(kit.i8(33, 20) | 1))
    result["dense of 1 bit"] = op, [kit.i8(2, 20), *constants]
    op, constants = linear(kit, QConv2d, Form.NARROW, kit.i8(19, 3, 3, 1) | 1, groups=19)
    result["depthwise"] = op, [x, *constants]
    op, constants = linear(kit, QDense, Form.NARROW, kit.i8(10, 19) | 1)
    result["dense"] = op, [x, *constants]
    window = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)}
    multipliers = np.array([0, *(2**30 // n for n in range(1, 10))], np.int32)
    average = partial(
        QAveragePool2d, x_zero_point=0, shift=30, requantize=wide["requantize"], **window
    )
    add = {"a_multiplier": 9000, "b_multiplier": -70, "fraction_bits": 5, "zero_point": 3}
    mean = partial(QReduceSum, axes=(1, 2), keepdims=False, x_zero_point=-7, **wide)
    resize = partial(Resize2d, size=(13, 5), scale=(13 / 9, 5 / 10), mode=ResizeMode.LINEAR)
    return (
        result
        | cases_of_16_bits(kit)
        | {
            "matmul": (partial(QMatMul, **pair, **wide), [kit.i8(2, 9, 17), kit.i8(17, 21)]),
            "add": (partial(QAdd, **pair, **add), [x, kit.i8(19)]),
            "mul": (partial(QMul, **pair, **wide), [x, kit.i8(19)]),
            "pair table": (PairTable, [x, kit.i8(19), kit.fixed(kit.i8(2**16))]),
            "table": (Table, [x, kit.fixed(kit.i8(256))]),
            "max pool": (partial(MaxPool2d, **window), [x]),
            "average pool": (average, [x, kit.fixed(multipliers)]),
            "mean": (mean, [x]),
            "argmax": (partial(ArgMax, axis=3), [x]),
            "softmax": (partial(QSoftmax, axis=3), [x, log_tables[0]]),
            "log softmax": (partial(QLogSoftmax, axis=3, **log), [x, *log_tables]),
            "resize": (resize, [x]),
            "transpose": (partial(Transpose, permutation=(0, 3, 1, 2)), [x]),
        }
    )


def narrow_cases(kit: Any) -> dict[str, tuple[Any, list[Any]]]:
    """Layers around the sizes of vectors, tiles and groups, with sums far beyond 16 bits."""
    first = {"stride": (2, 2), "padding": (0, 0, 1, 1)}
    layers: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
        "first layer": ((1, 9, 11, 3), (21, 3, 3, 3), first),
        "pointwise of 24": ((1, 7, 9, 24), (40, 1, 1, 24), {}),
        "pointwise to 24": ((1, 8, 7, 96), (24, 1, 1, 96), {}),
        "half panels": ((1, 7, 7, 36), (44, 1, 1, 36), {}),
        "groups": ((1, 6, 9, 16), (20, 3, 3, 4), {"groups": 4}),
        "depthwise of 8": ((1, 9, 8, 8), (8, 3, 3, 1), {"groups": 8}),
        "depthwise of 40": ((1, 9, 8, 40), (40, 5, 5, 1), {"groups": 40, "stride": (2, 2)}),
    }
    result: dict[str, tuple[Any, list[Any]]] = {}
    for n, (name, (x, weight, window)) in enumerate(layers.items()):
        q = Requantize(Form.NARROW, 9 * n if n % 3 else -128, -110 + n, 127 - 5 * n)
        multiplier, shift = [(32767, 0), (20000, 5), (1, 1)][n % 3]
        tables = [np.full(weight[0], v, np.int32) for v in (-77, multiplier, shift)]
        op = partial(QConv2d, x_zero_point=0, requantize=q, **window)
        constants = (np.maximum(kit.i8(*weight, seed=n), -127), *tables)
        result[name] = op, [kit.i8(*x, seed=n), *map(kit.fixed, constants)]
    return result


def cases_of_16_bits(kit: Any) -> dict[str, tuple[Any, list[Any]]]:
    """The kernels of their own; sums of dense are i64."""
    q = Requantize(Form.WIDE, 0, -(2**15), 2**15 - 1, 16)
    scaling = {"multiplier": 2**20 + 5, "shift": 38, "requantize": q}
    zeros = {"a_zero_point": 0, "b_zero_point": 0}
    x = kit.i16(2, 9, 10, 19)

    def linear_16(make: Any, weight: Any, dtype: Any, **fields: Any) -> tuple[Any, list[Any]]:
        values = (99, dtype), (2**20 + 7, np.int32), (30, np.int32)
        tables = [np.full(len(weight), n, t) for n, t in values]
        op = partial(make, x_zero_point=0, requantize=q, **fields)
        return op, [x, *map(kit.fixed, (weight, *tables))]

    average = partial(
        QAveragePool2d, x_zero_point=0, shift=30, requantize=q, kernel=(3, 3), padding=(1, 1, 1, 1)
    )
    multipliers = kit.fixed(np.array([0, *(2**30 // n for n in range(1, 10))], np.int32))
    wide = partial(
        QAddWide, **zeros, a_multiplier=2**30, b_multiplier=-(2**29), shift=31, zero_point=0,
        qmin=-(2**15), qmax=2**15 - 1, bits=16,
    )  # fmt: skip
    silu = partial(Interpolate, step_bits=7, zero_point=0, qmin=-(2**15), qmax=2**15 - 1, bits=16)
    entries = kit.fixed(np.arange(-(2**20), 2**20 + 1, 2**12).astype(np.int32))
    return {
        "conv 16": linear_16(QConv2d, kit.i8(33, 3, 3, 19) // 8, np.int32, padding=(1, 1, 1, 1)),
        "depthwise 16": linear_16(QConv2d, kit.i8(19, 3, 3, 1) | 1, np.int64, groups=19),
        "dense 16": linear_16(QDense, kit.i8(10, 19) | 1, np.int64),
        "matmul 16": (partial(QMatMul, **zeros, **scaling), [kit.i16(2, 9, 17), kit.i16(17, 21)]),
        "add 16": (wide, [x, kit.i16(19)]),
        "mul 16": (partial(QMul, **zeros, **scaling), [x, kit.i16(19)]),
        "rescale 16": (partial(QRescale, x_zero_point=0, **scaling), [x]),
        "interpolate 16": (silu, [x, entries]),
        "average pool 16": (average, [x, multipliers]),
        "mean 16": (
            partial(QReduceSum, axes=(1, 2), keepdims=False, x_zero_point=0, **scaling),
            [x],
        ),
        "argmax 16": (partial(ArgMax, axis=3), [x]),
        "softmax 16": (partial(QSoftmax, axis=3, bits=16), [x, kit.fixed(exp_table_16(0.0003))]),
        "transpose 16": (partial(Transpose, permutation=(0, 3, 1, 2)), [x]),
    }


def side_by_side(kit: Any, cases: dict[str, tuple[Any, list[Any]]]) -> tuple[Graph, dict[str, Any]]:
    """A graph of all cases, and the values of its inputs."""
    graph, inputs = Graph("arm"), {}
    for name, (make, operands) in cases.items():
        prefix = name.replace(" ", "_")
        one, values = kit.one_op(make, *operands)
        copied = {id: f"{prefix}.{id}" for id in (t.id for t in one.tensors())}
        for tensor in one.tensors():
            if tensor.is_constant:
                graph.add_tensor(_renamed(tensor, copied[tensor.id]))
        for public, id in one.inputs.items():
            graph.inputs[f"{prefix}_{public}"] = graph.add_tensor(
                _renamed(one.tensor(id), copied[id])
            )
            inputs[f"{prefix}_{public}"] = values[public]
        (op,) = one.ops()
        _add(graph, op, copied)
        graph.update_tensor(_renamed(one.tensor(op.output), copied[op.output]))
        graph.outputs[prefix] = copied[op.output]
    return graph, inputs


def every_kind(kit: Any) -> tuple[Graph, dict[str, Any]]:
    """Of every kind of kernel."""
    return side_by_side(kit, cases(kit))


def _renamed(tensor: Any, id: str) -> Any:
    return type(tensor)(id, tensor.type, data=tensor.data, qparams=tensor.qparams)


def _add(graph: Graph, op: Op, names: dict[str, str]) -> None:
    inputs = tuple(names[t] for t in op.inputs)
    graph.add_op(replace(op, inputs=inputs, output=names[op.output]))
