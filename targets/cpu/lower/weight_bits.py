"""In how many bits the weights of a layer are stored, and what that changes in its parameters.

A channel's integers are codes of few bits times a power of two, mostly 1. Kernels multiply codes by
2^`gain` (kernels/codes.py), whatever that power was. So the sums, the bias and the rounding with
them, are as many times larger; a shift by as many bits more gives the same result, bit for bit, as
long as nothing overflows. A channel without weights, whose bias may be large, stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.tensor import Array
from qcomp.quant.fixed_point import INT32_MAX, Form
from qcomp.quant.packing import fewest_bits, powers_of_two
from qcomp.targets.cpu.kernels.codes import gain
from qcomp.targets.cpu.kernels.gemm import GemmSpec

Tables = Sequence[NDArray[np.int32]]

# The largest shifts that kernels do; the other forms round more than once.
_LARGEST_SHIFT = {Form.NARROW: 31, Form.WIDE: 62}
_LARGEST_STORED = 255  # activation


@dataclass(frozen=True, eq=False)
class Coding:
    """The weights of a layer as codes of `bits` bits.

    Its weight is code << power, the kernel's code << (power + gain), by channel.
    """

    bits: int
    powers: NDArray[np.int64]
    gains: NDArray[np.int64]

    def codes(self, weights: Array) -> Array:
        """Of weights [groups, N, ...], whose channels are the layer's in order."""
        powers = self.powers.astype(np.int8).reshape(*weights.shape[:2], *(1,) * (weights.ndim - 2))
        return np.asarray(weights >> powers).astype(np.int8, copy=False)

    def tables(self, tables: Tables) -> Tables:
        """Bias, multiplier, shift (and ceiling) for the kernel's sums."""
        bias, multiplier, shift, *rest = tables
        bias, shift = bias << self.gains, shift + self.gains
        return [bias.astype(np.int32), multiplier, shift.astype(np.int32), *rest]

    def of(self, spec: GemmSpec, codes: Array) -> GemmSpec:
        """The shape class with these codes; one bit has no zeros, to fill steps up with."""
        whole = spec.length % spec.packing.group == 0 and bool(codes.all())
        return replace(spec, weight_bits=self.bits if self.bits > 1 or whole else 2)


def coding(weight: Array, tables: Tables, form: Form) -> Coding:
    """The one of the fewest bits whose larger sums are exact."""
    few = (_coding(weight, bits) for bits in (1, 2, 4))
    none = np.zeros(len(weight), np.int64)
    whole = Coding(8, none, none)
    return next((c for c in few if c is not None and _fits(c, weight, tables, form)), whole)


def fewest_code_bits(weight: Array) -> int:
    """Of 1, 2, 4 and 8 bits, whatever the sums are."""
    return next((bits for bits in (1, 2, 4) if _coding(weight, bits) is not None), 8)


def _coding(weight: Array, bits: int) -> Coding | None:
    """None where the integers need more bits."""
    flat = weight.reshape(len(weight), -1)
    powers = powers_of_two(flat, gain(bits))
    if fewest_bits(flat >> powers[:, None].astype(np.int8)) > bits:
        return None
    return Coding(bits, powers, np.where(flat.any(axis=1), gain(bits) - powers, 0))


def _fits(coding: Coding, weight: Array, tables: Tables, form: Form) -> bool:
    """Whether all sums of products and bias stay within i32, and all shifts are done."""
    if form not in _LARGEST_SHIFT:
        return False
    bias, _, shift, *_ = tables
    sums = np.abs(weight.reshape(len(weight), -1).astype(np.int64)).sum(axis=1)
    reach = np.abs(bias.astype(np.int64)) + _LARGEST_STORED * sums
    in_range = (reach << coding.gains) <= INT32_MAX
    return bool(in_range.all() and (shift + coding.gains <= _LARGEST_SHIFT[form]).all())
