"""In how many bits the weights of a layer are stored, and what that changes in its parameters.

Kernels multiply weights of few bits by a power of two (emit/codes.py). The sums, the bias and the
rounding with them, are as many times larger; a shift by as many bits more gives the same result,
bit for bit, as long as nothing overflows. A channel without weights, whose bias may be large, stays
as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.tensor import Array
from qcomp.quant.fixed_point import INT32_MAX, Form
from qcomp.quant.packing import fewest_bits
from qcomp.targets.cpu.emit.codes import gain
from qcomp.targets.cpu.emit.gemm import GemmSpec

Tables = Sequence[NDArray[np.int32]]

# The largest shifts that kernels do; the other forms round more than once.
_LARGEST_SHIFT = {Form.NARROW: 31, Form.WIDE: 62}
_LARGEST_STORED = 255  # activation


def stored_bits(weight: Array, tables: Tables, form: Form) -> int:
    """The fewest of 1, 2, 4 and 8 bits that the integers have and whose larger sums are exact."""
    few = (bits for bits in (1, 2, 4) if bits >= fewest_bits(weight))
    return next((bits for bits in few if _fits(weight, tables, form, bits)), 8)


def scaled(weight: Array, tables: Tables, bits: int) -> Tables:
    """Bias, multiplier, shift (and ceiling) for sums of weights that are stored in so many bits."""
    bias, multiplier, shift, *rest = tables
    gains = _gains(weight, bits)
    return [bias << gains, multiplier, shift + gains, *rest]


def with_weight_bits(spec: GemmSpec, weights: Array, bits: int) -> GemmSpec:
    """The shape class with weights of so many bits; one bit has no zeros, to fill steps up with."""
    whole = spec.length % spec.packing.group == 0
    return replace(spec, weight_bits=bits if bits > 1 or (whole and weights.all()) else 2)


def _gains(weight: Array, bits: int) -> NDArray[np.int32]:
    """`gain` of each channel."""
    lives = weight.reshape(len(weight), -1).any(axis=1)
    gains: NDArray[np.int32] = np.where(lives, gain(bits), 0).astype(np.int32)
    return gains


def _fits(weight: Array, tables: Tables, form: Form, bits: int) -> bool:
    """Whether all sums of products and bias stay within i32, and all shifts are done."""
    if form not in _LARGEST_SHIFT:
        return False
    bias, _, shift, *_ = tables
    gains = _gains(weight, bits)
    sums = np.abs(weight.reshape(len(weight), -1).astype(np.int64)).sum(axis=1)
    reach = np.abs(bias.astype(np.int64)) + _LARGEST_STORED * sums
    in_range = (reach << gains) <= INT32_MAX
    return bool(in_range.all() and (shift + gains <= _LARGEST_SHIFT[form]).all())
