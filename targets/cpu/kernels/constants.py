"""The constants of a layer's epilogue, in front of its tables per channel.

One cache line: zero_point, qmin, qmax; the same + BIAS; the constants of a residual addition. Then,
where a lookup is fused, its table of 256 stored bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.fixed_point import Requantize
from qcomp.targets.cpu.kernels.addition import Addition
from qcomp.targets.cpu.storage import BIAS

HEADER_INTS = 16
STORED_BYTES = 4 * 3  # before the values + BIAS
ADDITION_BYTES = 4 * 6  # before those of an addition
LOOKUP_BYTES = 4 * HEADER_INTS  # before the table of a lookup
_TABLE_BYTES = 256


def header_bytes(*, lookup: bool) -> int:
    """Bytes before the tables per channel."""
    return LOOKUP_BYTES + (_TABLE_BYTES if lookup else 0)


def header(
    q: Requantize, addition: Addition | None = None, lookup: NDArray[np.uint8] | None = None
) -> NDArray[np.int32]:
    """The constants as i32, so that layers can share a kernel."""
    values = np.zeros(HEADER_INTS, np.int32)
    last = addition or q  # saturates last
    stored = [last.zero_point, last.qmin, last.qmax]
    values[:6] = [*stored, *(v + BIAS for v in stored)]
    if addition is not None:
        constants = addition.constants()
        values[6 : 6 + len(constants)] = constants
    if lookup is None:
        return values
    assert lookup.nbytes == _TABLE_BYTES
    return np.concatenate([values, lookup.view(np.int32)])
