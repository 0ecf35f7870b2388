"""Groups of a convolution taken together, so that vectors of channels are full.

Groups with few outputs leave most lanes of a panel empty. Neighbouring groups become one whose
weights are 0 between them, which costs products; or their channels share a panel and each lane has
the activations of its own group, which costs a shuffle and needs them to lie within 16 bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qcomp.ir.tensor import Array
from qcomp.targets.cpu.kernels.gemm import GROUP
from qcomp.targets.cpu.machine import Isa


@dataclass(frozen=True, eq=False)
class Grouping:
    """Weights [groups, N, KH, KW, I], the step in bytes to the next group, `mixed` of GemmSpec."""

    weight: Array
    step: int
    mixed: tuple[int, int] = (1, 0)


def groupings(weight: Array, groups: int, isa: Isa) -> Iterator[Grouping]:
    """The ways to group an OHWI weight, as it is first."""
    outputs, kh, kw, depth = weight.shape
    each = outputs // groups
    for together in range(1, groups + 1):
        if groups % together or (together > 1 and together * each > isa.lanes):
            continue
        count, step = groups // together, together * depth
        side_by_side = weight.reshape(count, together * each, kh, kw, depth)
        if together == 1:
            yield Grouping(side_by_side, step)
            continue
        yield Grouping(_block_diagonal(weight, count, together), step)
        if (together - 1) * depth + min(depth, GROUP) <= isa.machine.products.row:
            yield Grouping(side_by_side, step, (together, depth))


def _block_diagonal(weight: Array, count: int, together: int) -> Array:
    outputs, kh, kw, depth = weight.shape
    each = outputs // (count * together)
    apart = weight.reshape(count, together, each, kh, kw, depth)
    merged = np.zeros((count, together, each, kh, kw, together, depth), np.int8)
    for n in range(together):
        merged[:, n, :, :, :, n] = apart[:, n]
    return merged.reshape(count, together * each, kh, kw, together * depth)
