"""Integer ops of every type with operands, by the module that gives their expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.ir import ops
from qcomp.ir.graph import Graph
from qcomp.ir.ops import BlockOrder, Op, PadMode, Reduction, Relation, ResizeMode
from qcomp.ir.tensor import DType, TensorType
from qcomp.quant import gemmlowp
from qcomp.quant.fixed_point import Form, Requantize, multiplier_onnx
from qcomp.quant.qparams import QParams
from qcomp.quant.tables import exp_table, exp_table_16, log_table, log_table_16

Array = NDArray[Any]


@dataclass(frozen=True)
class Fixed:
    """An operand that is a constant."""

    array: Array


Operand = Array | Fixed
Case = tuple[Callable[..., Op], Sequence[Operand]]


def ints(bits: int, *shape: int, seed: int = 0) -> Array:
    """Any value of so many bits; one in four is an extreme."""
    random = np.random.default_rng([seed, *shape])
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    values = random.integers(low, high + 1, shape)
    extremes = random.choice([low, high], shape)
    chosen = np.where(random.random(shape) < 0.25, extremes, values)
    return chosen.astype({8: np.int8, 16: np.int16}[bits])


def i8(*shape: int, seed: int = 0) -> Array:
    return ints(8, *shape, seed=seed)


def i16(*shape: int, seed: int = 0) -> Array:
    return ints(16, *shape, seed=seed)


def fixed(*values: Any) -> Fixed:
    return Fixed(np.array(values, np.int32))


WIDE_16 = Requantize(Form.WIDE, 0, -(2**15), 2**15 - 1, 16)
# A multiplier and a shift of each form, for sums of about 2^17.
FACTORS: Mapping[Form, tuple[int, int]] = {
    Form.NARROW: (20011, 7),
    Form.WIDE: (2**30 + 99, 41),
    Form.TFLITE: (2**30 + 99, -10),
    Form.AWAY: (2**45 + 99, 56),
    Form.ONNX: multiplier_onnx(0.000763),
    Form.QUOTIENT: (1171, 0),
}


def parameters(outputs: int, form: Form, bias: str = "int32", seed: int = 0) -> list[Fixed]:
    """Bias, multiplier and shift, which differ in some channels."""
    random = np.random.default_rng(seed)
    multiplier, shift = FACTORS[form]
    multipliers = np.full(outputs, multiplier, np.int64 if form is Form.AWAY else np.int32)
    shifts = np.full(outputs, shift, np.int32)
    if form is not Form.ONNX:
        multipliers -= random.integers(0, 999, outputs, dtype=np.int32)
    if form in (Form.NARROW, Form.WIDE, Form.AWAY):
        shifts -= random.integers(0, 3, outputs, dtype=np.int32)
    return [
        Fixed(random.integers(-(2**15), 2**15, outputs).astype(bias)),
        Fixed(multipliers),
        Fixed(shifts),
    ]


def layer(shape: tuple[int, ...], form: Form, seed: int = 0) -> list[Fixed]:
    return [Fixed(i8(*shape, seed=seed)), *parameters(shape[0], form, seed=seed)]


def choices() -> list[Case]:
    compare = partial(ops.QCompare, zero=-3, one=100)
    return [
        *((partial(compare, relation=r), (i8(2, 5, 7), i8(7, seed=1))) for r in Relation),
        (partial(ops.QSelect, condition_zero_point=0), (i8(5, 7) // 100, i8(7), i8(5, 1, seed=1))),
        (partial(ops.QSelect, condition_zero_point=0), (i8(5, 7) // 100, i16(5, 7), i16(1))),
    ]


def elements() -> list[Case]:
    points = {"a_zero_point": 5, "b_zero_point": -9}
    clamp = {"zero_point": 3, "qmin": -120, "qmax": 121}
    none = {"a_zero_point": 0, "b_zero_point": 0, "zero_point": 0}
    of_16 = {"qmin": -(2**15), "qmax": 2**15 - 1, "bits": 16}
    x, y, row = i8(2, 3, 5, 8), i8(2, 3, 5, 8, seed=1), i8(8, seed=2)
    add = partial(ops.QAdd, a_multiplier=9000, b_multiplier=-7001, **points, **clamp)
    wide = {"a_multiplier": 2**21 + 77, "b_multiplier": -(2**21) + 5, "shift": 22}
    wide_16 = {"a_multiplier": 2**30, "b_multiplier": -(2**30) + 5, "shift": 31}
    rescaled = partial(
        ops.QAddRescaled, left_shift=20, a_multiplier=2**30, a_shift=0, b_multiplier=2**30 + 5,
        b_shift=-1, multiplier=2**30 + 9, shift=-18, requantize=Requantize(Form.TFLITE, 3),
        **points,
    )  # fmt: skip
    mul = partial(ops.QMul, **points)
    slopes = np.random.default_rng(0).integers(-(2**21), 2**21, 8).astype(np.int32)
    prelu = {"x_zero_point": -3, "positive_multiplier": 2**22 - 1, "shift": 23, "zero_point": 9}
    entries = np.random.default_rng(0).integers(-(2**14), 2**14, 513).astype(np.int32)
    return [
        (partial(add, fraction_bits=5), (x, y)),
        (partial(add, fraction_bits=0), (x, row)),
        (partial(ops.QAddWide, **wide, **points, **clamp), (row, x)),
        (partial(ops.QAddWide, **wide_16, **none, **of_16), (i16(3, 8), i16(8, seed=1))),
        (partial(rescaled, b_sign=1), (x, y)),
        (partial(rescaled, b_sign=-1), (x, i8(1))),
        *(
            (partial(mul, multiplier=m, shift=s, requantize=Requantize(form, 3)), (x, y))
            for form, (m, s) in FACTORS.items()
        ),
        (partial(ops.QDiv, multiplier=2**22 - 3, shift=16, **points, **clamp), (x, y)),
        (partial(ops.QDiv, multiplier=2**30, shift=30, **none, **of_16), (i16(9), i16(9, seed=1))),
        (partial(ops.QMinimum, qmin=-100, qmax=100), (x, row)),
        (partial(ops.QMaximum, qmin=-(2**15), qmax=99), (i16(9), i16(9, seed=1))),
        (ops.Table, (x, Fixed(i8(256)))),
        (ops.PairTable, (x, y, Fixed(i8(2**16)))),
        (ops.Table, (row, Fixed(i16(256)))),
        (partial(ops.QRescale, x_zero_point=0, multiplier=2**30, shift=31, requantize=WIDE_16),
         (i16(3, 8),)),
        (partial(ops.Interpolate, step_bits=7, zero_point=1), (i16(3, 80), Fixed(entries))),
        (partial(ops.QPRelu, **prelu), (x, Fixed(slopes))),
        (partial(ops.QPReluRescaled, x_zero_point=-3, slope_zero_point=9,
                 positive_multiplier=2**30 + 9, positive_shift=1, multiplier=2**30 + 5, shift=-8,
                 requantize=Requantize(Form.TFLITE, 9)), (x, Fixed(i8(8)))),
    ]  # fmt: skip


def layers() -> list[Case]:
    pads, narrow = (1, 0, 2, 1), Requantize(Form.NARROW, 3)
    conv = partial(ops.QConv2d, x_zero_point=-5, requantize=narrow)
    deep = (i8(1, 7, 9, 8), *layer((6, 3, 3, 8), Form.NARROW))
    zero = Fixed(np.array([-100, 0, 100, 5, 6, 7], np.int8))
    matmul = partial(ops.QMatMul, a_zero_point=3, b_zero_point=-4)
    wide = [Fixed(i8(5, 16, seed=1)), *parameters(5, Form.WIDE, "int64")]
    return [
        (partial(conv, padding=pads, stride=(2, 1), dilation=(1, 2)), deep),
        (partial(conv, padding=pads), (*deep, zero)),
        (partial(conv, stride=(2, 2), padding=(0, 0, 1, 1)),
         (i8(2, 8, 8, 3), *layer((8, 3, 3, 3), Form.NARROW))),
        (conv, (i8(1, 4, 4, 16), *layer((12, 1, 1, 16), Form.NARROW))),
        (conv, (i8(1, 3, 5, 8), *layer((19, 1, 1, 8), Form.NARROW))),
        (partial(ops.QDense, x_zero_point=7, requantize=Requantize(Form.ONNX, 3)),
         (i8(1, 16), *layer((33, 16), Form.ONNX))),
        (partial(conv, groups=8, padding=(1, 1, 1, 1)),
         (i8(1, 5, 8, 8), *layer((8, 3, 3, 1), Form.NARROW))),
        (partial(conv, groups=2), (i8(1, 4, 4, 8), *layer((6, 2, 2, 4), Form.NARROW))),
        *(
            (partial(ops.QDense, x_zero_point=7, requantize=Requantize(form, 3)),
             (i8(3, 16), *layer((5, 16), form)))
            for form in Form
        ),
        (partial(ops.QDense, x_zero_point=0, requantize=WIDE_16), (i16(3, 16), *wide)),
        (partial(matmul, multiplier=2**30, shift=40, requantize=Requantize(Form.WIDE, 3)),
         (i8(2, 1, 3, 8), i8(4, 8, 5, seed=1))),
    ]  # fmt: skip


def movements() -> list[Case]:
    image = i8(1, 4, 6, 8)
    resize = partial(ops.Resize2d, size=(7, 9), scale=(7 / 4, 1.5))
    pad = partial(ops.Pad, before=(0, 1, 2, 0), after=(0, 2, 1, 0))
    gathered = Fixed(np.array([7, 0, 0, 3], np.int64))
    return [
        (partial(ops.Reshape, shape=(8, 24)), (image,)),
        (partial(ops.Transpose, permutation=(0, 3, 1, 2)), (image,)),
        (partial(ops.Concat, axis=3), (image, i8(1, 4, 6, 3), image)),
        (partial(ops.Concat, axis=1), (image, i8(1, 2, 6, 8), image)),
        (partial(ops.Slice, starts=(0, 3, 0, 1), sizes=(1, 2, 2, 3), steps=(1, -2, 3, 2)),
         (image,)),
        *((partial(pad, mode=mode, value=-7.0), (image,)) for mode in PadMode),
        (partial(ops.Gather, axis=3), (image, gathered)),
        (partial(ops.BroadcastTo, shape=(2, 3, 8)), (i8(3, 1),)),
        (partial(ops.Tile, repeats=(2, 1, 3)), (i8(2, 3, 5),)),
        (resize, (image,)),
        (partial(resize, mode=ResizeMode.LINEAR), (image,)),
        (partial(resize, mode=ResizeMode.LINEAR), (i16(1, 4, 6, 8),)),
        *((partial(ops.DepthToSpace, block=2, order=o), (image,)) for o in BlockOrder),
        *((partial(ops.SpaceToDepth, block=2, order=o), (image,)) for o in BlockOrder),
        (partial(ops.ZeroStuff, stride=(2, 3), value=-9.0), (image,)),
        (partial(ops.QEmbedding, first=-3), (i8(2, 5), Fixed(i16(9, 4)))),
    ]  # fmt: skip


def pools() -> list[Case]:
    window = {"kernel": (2, 3), "padding": (1, 0, 0, 2), "stride": (1, 2)}
    mean = partial(ops.QAveragePool2d, x_zero_point=3, shift=31)
    counts = np.array([0, *(2**31 // np.arange(1, 7) - 1)], np.int32)
    return [
        (partial(ops.MaxPool2d, dilation=(2, 1), **window), (i8(1, 6, 7, 8),)),
        (partial(ops.MaxPool2d, **window), (i16(1, 6, 7, 3),)),
        (partial(mean, requantize=Requantize(Form.WIDE, 3), **window),
         (i8(1, 6, 7, 8), Fixed(counts))),
        (partial(mean, requantize=Requantize(Form.WIDE, 3), count_include_pad=True, **window),
         (i8(1, 6, 7, 3), Fixed(counts))),
    ]  # fmt: skip


def powers() -> list[Case]:
    op = partial(ops.QLogPower, x_zero_point=0, down=0, added=3, least=7, offset=-900, zero_point=0)
    return [(op, (i8(3, 7), i8(3, 7, seed=1), Fixed(log_table_16(2**16 / 0.3, 0))))]


def reductions() -> list[Case]:
    x, x_16 = i8(3, 5, 7), i16(3, 5, 7)
    logs = partial(ops.QLogSoftmax, axis=2, multiplier=2**14, shift=20, zero_point=99)
    by_16 = partial(ops.QLogSoftmax, axis=1, multiplier=2**20, shift=34, zero_point=0, bits=16)
    total = partial(ops.QReduceSum, x_zero_point=4, multiplier=2**30, shift=33)
    exps, exps_16 = Fixed(exp_table(0.05)), Fixed(exp_table_16(0.001))
    return [
        *((partial(ops.ArgMax, axis=1, keepdims=k, last=k), (x // 30,)) for k in (False, True)),
        (partial(total, axes=(0, 2), keepdims=False, requantize=Requantize(Form.WIDE, 3)), (x,)),
        (partial(total, axes=(), keepdims=False, requantize=Requantize(Form.WIDE, 3)), (x,)),
        *(
            (partial(ops.QReduceExtreme, kind=kind, axes=(0, 1, 2), keepdims=False), (x,))
            for kind in (Reduction.MAX, Reduction.MIN)
        ),
        (partial(ops.QSoftmax, axis=1), (x, exps)),
        (partial(ops.QSoftmax, axis=2, finer=3), (x, exps)),
        (partial(ops.QSoftmax, axis=2, bits=16), (x_16, exps_16)),
        (partial(ops.QSoftmax, axis=2, form=Form.TFLITE),
         (x, Fixed(gemmlowp.exp_table(float(np.float32(0.05)))))),
        (logs, (x, exps, Fixed(log_table(2.0**20)))),
        (by_16, (x_16, exps_16, Fixed(log_table_16(2.0**34, 30)))),
    ]  # fmt: skip


CASES: Mapping[str, Callable[[], list[Case]]] = {
    "choice": choices,
    "elementwise": elements,
    "linear": layers,
    "movement": movements,
    "pooling": pools,
    "power": powers,
    "reduction": reductions,
}


def together(cases: Sequence[Case]) -> tuple[Graph, dict[str, Array]]:
    """One graph that has a result of each case as an output, and the values of its inputs."""
    graph, inputs = Graph("cases"), {}
    for n, (make, operands) in enumerate(cases):
        ids = []
        for k, operand in enumerate(operands):
            if isinstance(operand, Fixed):
                ids.append(graph.add_constant(f"c{n}.{k}", operand.array))
            else:
                name, type = f"x{n}.{k}", TensorType(DType.of(operand.dtype), operand.shape)
                ids.append(graph.add_input(name, type))
                inputs[name] = operand
        graph.outputs[f"y{n}"] = graph.add_op(make(inputs=tuple(ids), output=f"y{n}"))
    scale(graph)
    return graph, inputs


def scale(graph: Graph) -> None:
    """Gives every activation the same scale."""
    for tensor in graph.tensors():
        if not tensor.is_constant and tensor.type.dtype in (DType.I8, DType.I16):
            is_i8 = tensor.type.dtype is DType.I8
            qparams = QParams(0.5, 0) if is_i8 else QParams(0.5, 0, -(2**15), 2**15 - 1)
            graph.update_tensor(replace(tensor, qparams=qparams))
