"""How a layer with weights and 16 bits at either side is cut and packed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.tensor import Array
from qcomp.targets.cpu.emit.i16.spec import PAIR, ProductSpec
from qcomp.targets.cpu.emit.lanes import chunk
from qcomp.targets.cpu.machine import Isa


@dataclass(frozen=True)
class Blocking:
    """How a kernel cuts its work.

    Channels come in blocks of a register tile's width, the last one moved back to end with them,
    pixels in tiles along the columns.
    """

    spec: ProductSpec
    isa: Isa

    @property
    def block(self) -> int:
        """Channels of a block."""
        vectors = 4 if self.isa.registers >= 32 else 2
        return chunk(self.spec.channels, vectors * self.isa.lanes, self.isa.lanes)

    @property
    def lanes(self) -> int:
        """Of a vector of channels."""
        return min(self.block, self.isa.lanes)

    @property
    def vectors(self) -> int:
        """Of a block."""
        return self.block // self.lanes

    @property
    def blocks(self) -> int:
        return -(-self.spec.channels // self.block)

    @property
    def pixels(self) -> int:
        return min(4, self.spec.columns.count)

    @property
    def tiles(self) -> int:
        return -(-self.spec.columns.count // self.pixels)

    @property
    def units(self) -> int:
        """A unit is a tile of pixels of one block; neighbouring units share the block's weights."""
        spec = self.spec
        return spec.groups.count * self.blocks * spec.batch.count * spec.rows.count * self.tiles

    def packed(self, weight: Array) -> NDArray[np.int8]:
        """[groups, channels, segments, length] to [group][block][segment][pair][channel][2]."""
        missing = self.spec.pairs * PAIR - self.spec.length
        padded = np.pad(weight, [(0, 0)] * 3 + [(0, missing)])
        groups, _, segments, _ = weight.shape
        parts = padded[:, self._order()].reshape(
            groups, self.blocks, self.block, segments, self.spec.pairs, PAIR
        )
        return np.ascontiguousarray(parts.transpose(0, 1, 3, 4, 2, 5), np.int8)

    def by_block(self, values: Array) -> Array:
        """[groups * channels] to [group][block][channel]."""
        return np.ascontiguousarray(values.reshape(self.spec.groups.count, -1)[:, self._order()])

    def _order(self) -> NDArray[np.intp]:
        """The channels of one group as blocks have them."""
        last = self.spec.channels - self.block
        starts = np.minimum(np.arange(self.blocks) * self.block, last)
        return (starts[:, None] + np.arange(self.block)).reshape(-1)
