"""Meanings of the ops between floats and integers; the parameters come with the call."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.ops import FakeQuantConstant


def fake_quant_constant(
    op: FakeQuantConstant, x: NDArray[np.float32], *grid: NDArray[Any]
) -> NDArray[np.float32]:
    return op.grid(*grid).values(x).astype(np.float32)
