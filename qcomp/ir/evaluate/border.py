"""Meanings of the ops between floats and integers; the parameters come with the call."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.ops import FakeQuantConstant
from qcomp.quant.qparams import quantize_channels


def fake_quant_constant(
    op: FakeQuantConstant, x: NDArray[np.float32], scale: NDArray[np.float64]
) -> NDArray[np.float32]:
    q = quantize_channels(x, scale, op.axis, op.qmin, op.qmax)
    shape = [1] * x.ndim
    if scale.size > 1:
        shape[op.axis] = scale.size
    return np.asarray(q * scale.reshape(shape), np.float32)
