"""How layers with weights and 16 bits at either side are cut and packed for AArch64.

Channels come in blocks of vectors of four, the last one moved back to end with them, and pixels in
runs of tiles along the columns. Weights lie as those of 8 bits do: by four neighbouring k of each
channel of a block, so that the variants of a library share them, or by eight for smmla.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.tensor import Array
from qcomp.targets.cpu.emit.i16.spec import ProductSpec

GROUP = 4  # neighbouring k of a step
LANES = 4  # channels of a vector of sums
_MOST_VECTORS = 4
_MOST_TILES = 8  # of a run
# In vector instructions: of a vector of results, of weights, of a tile, of a run.
_EPILOGUE, _WEIGHTS, _TILE, _RUN = 8, 0.25, 8, 12


@dataclass(frozen=True)
class Tiling:
    """`vectors` of a block, `pixels` of a tile, `tiles` of a run, neighbouring k of a `group`."""

    spec: ProductSpec
    vectors: int
    pixels: int
    tiles: int
    group: int = GROUP

    @property
    def steps(self) -> int:
        """Of a segment; what is missing in the last one is multiplied by weights of 0."""
        return -(-self.spec.length // self.group)

    @property
    def block(self) -> int:
        """Channels of a block; fewer are real where there is one and the layer has less."""
        return LANES * self.vectors

    @property
    def blocks(self) -> int:
        return -(-self.spec.channels // self.block)

    @property
    def run(self) -> int:
        """Pixels of a unit of work."""
        return self.pixels * self.tiles

    @property
    def runs(self) -> int:
        return -(-self.spec.columns.count // self.run)

    def packed(self, weight: Array) -> NDArray[np.int8]:
        """[groups, channels, segments, length] to [group][block][segment][step][channel][k]."""
        groups, _, segments, length = weight.shape
        missing = self.steps * self.group - length
        padded = np.pad(self._whole(weight, axis=1), [(0, 0)] * 3 + [(0, missing)])
        parts = padded[:, self._order()].reshape(
            groups, self.blocks, self.block, segments, self.steps, self.group
        )
        return np.ascontiguousarray(parts.transpose(0, 1, 3, 4, 2, 5), np.int8)

    def by_block(self, values: Array) -> Array:
        """[groups * channels] to [group][block][channel]."""
        whole = self._whole(values.reshape(self.spec.groups.count, -1), axis=1)
        return np.ascontiguousarray(whole[:, self._order()])

    def _whole(self, values: Array, axis: int) -> Array:
        """With channels of zeros where there are fewer than a block has."""
        missing = max(0, self.block - self.spec.channels)
        return np.pad(values, [(0, missing if n == axis else 0) for n in range(values.ndim)])

    def _order(self) -> NDArray[np.intp]:
        """The channels of one group as blocks have them."""
        last = max(0, self.spec.channels - self.block)
        starts = np.minimum(np.arange(self.blocks) * self.block, last)
        return (starts[:, None] + np.arange(self.block)).reshape(-1)


def planes_of(spec: ProductSpec) -> int:
    """Bytes of an activation, which are multiplied one by one where there are dot products."""
    width: int = spec.source.width
    return width // 8


def best_vectors(spec: ProductSpec) -> int:
    """Of a block; the same for every set, as packed weights depend on it."""
    widths = range(1, max(1, min(_MOST_VECTORS, spec.channels // LANES)) + 1)
    planes = planes_of(spec)
    return min(widths, key=lambda v: -(-spec.channels // (LANES * v)) * (4 * planes * v + 3))


def best_tiling(
    spec: ProductSpec,
    most_pixels: int,
    step: float,
    pixel: float,
    group: int = GROUP,
    together: int = 1,
) -> Tiling:
    """The fewest instructions: `step` of them for a vector of a pixel, `pixel` more for a pixel,
    for each step of a group of k; `together` pixels are multiplied at once.
    """
    vectors = best_vectors(spec)

    def cost(tiling: Tiling) -> float:
        steps = spec.segment_count * tiling.steps
        pixels = -(-tiling.pixels // together) * together
        weights = vectors * _WEIGHTS * group / GROUP
        products = steps * (pixels * (vectors * step + pixel) + weights)
        tile = products + _EPILOGUE * tiling.pixels * vectors + _TILE
        return tiling.runs * (tiling.tiles * tile + _RUN)

    return min(_tilings(spec, vectors, most_pixels, group), key=cost)


def _tilings(spec: ProductSpec, vectors: int, most_pixels: int, group: int) -> Iterator[Tiling]:
    columns = spec.columns.count
    for pixels in range(1, min(most_pixels, columns) + 1):
        for tiles in range(1, min(_MOST_TILES, columns // pixels) + 1):
            yield Tiling(spec, vectors, pixels, tiles, group)
