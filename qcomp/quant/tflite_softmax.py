"""TensorFlow Lite's softmax of 16 bits: two tables of 513 entries, which it interpolates.

reference/softmax.h, SoftmaxInt16.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.fixed_point import I32, I64, multiplier_tflite
from qcomp.quant.tflite_functions import Scalar, looked_up_16, scaled_by, table_513

F64 = NDArray[np.float64]

_DIFFERENCES = 1 << 16


def softmax_tables(scale: float, kind: type[Scalar]) -> I32:
    """The i32 [65536 + 513] of QSoftmax: exponentials of differences, then reciprocals.

    They are filled in numbers of this kind: float64, and TensorFlow Lite Micro's in float32.
    """
    factor = multiplier_tflite(scale / (10.0 / 65535.0))  # so that 65535 stands for 10
    difference = -np.arange(_DIFFERENCES, dtype=np.int64)
    place = np.clip(scaled_by(difference, factor) + 32767, -(2**15), 2**15 - 1)
    exponentials = looked_up_16(_table(np.exp, 10.0, 32767, kind), place)
    reciprocals = _table(lambda x: 1 / (1 + x), 1.0, -32768, kind)
    return np.concatenate([exponentials, reciprocals]).astype(np.int32)


def shares(e: I64, total: I64, reciprocals: I64) -> I64:
    """e / total in Q15, of exponentials in Q15."""
    bits = np.frexp(total.astype(np.float64))[1].astype(np.int64)
    mantissa = ((total << (31 - bits)) + (1 << 13)) >> 14  # in Q16, from 1 on
    place = np.clip(mantissa - (1 << 15) - (1 << 16), -(2**15), 2**15 - 1)
    product = e * looked_up_16(reciprocals, place) + (np.int64(1) << (bits - 2))
    return np.asarray(np.clip(product >> (bits - 1), 0, 2**15 - 1), np.int64)


def _table(
    function: Callable[[F64], F64], width: float, zero_point: int, kind: type[Scalar]
) -> I64:
    """Of all 16-bit integers that stand for an interval of this width, in Q15."""
    step, y_step = kind(width / 65535), kind(2.0 / 65535)
    low, high = (step * kind(limit - zero_point) for limit in (-32768, 32767))
    scaling = kind(65536) / (y_step * kind(32767) - y_step * kind(-32768))
    return table_513(function, low, high, scaling)
