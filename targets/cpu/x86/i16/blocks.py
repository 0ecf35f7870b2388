"""How channels are cut into blocks of whole vectors of sums, and in which order these lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qcomp.ir.tensor import Array
from qcomp.targets.cpu.vectors import Vectors
from qcomp.targets.cpu.x86.i16.scale import pack_order


@dataclass(frozen=True)
class ChannelBlocks:
    """Blocks of equally many vectors, the last one moved back to end with the channels.

    Fewer channels than a block repeat the last one, and its results are not stored; where they fill
    half of a vector or less, its halves are alike. Two vectors lie in the order that packssdw makes
    whole, the last one of an odd number in order.
    """

    channels: int
    vectors: Vectors
    most: int  # vectors of a block

    @property
    def count(self) -> int:
        return -(-self.channels // (self.most * self.vectors.lanes))

    @property
    def of_block(self) -> int:
        """Vectors."""
        return -(-self.channels // (self.count * self.vectors.lanes))

    @property
    def block(self) -> int:
        """Channels of a block, those that are not stored included."""
        return self.of_block * self.vectors.lanes

    @property
    def stored(self) -> int:
        return min(self.block, self.channels)

    @property
    def has_halves(self) -> bool:
        """Whether half a vector holds all channels."""
        return 2 * self.channels <= self.vectors.lanes

    def order(self) -> Array:
        """[blocks, channels of a block]."""
        lanes = self.vectors.lanes
        if self.has_halves:
            half = np.minimum(np.arange(lanes // 2), self.channels - 1)
            return np.tile(half, 2)[None, :]
        pairs, rest = divmod(self.of_block, 2)
        inside = [pack_order(lanes) + 2 * lanes * n for n in range(pairs)]
        inside += [np.arange(lanes) + 2 * lanes * pairs] * rest
        starts = np.minimum(np.arange(self.count) * self.block, self.channels - self.stored)
        order: Array = starts[:, None] + np.concatenate(inside)
        return np.asarray(np.minimum(order, self.channels - 1))
