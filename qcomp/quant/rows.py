"""A bounded uniform sample of the rows of a stream (Vitter 1985, algorithm R)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

MOST_ROWS = 2048
MOST_VALUES = 1 << 20


@dataclass(eq=False)
class RowSample:
    """Rows, the vectors along the last axis, each kept with equal probability.

    The first ones are kept as they come, so a short stream is kept whole. The random numbers start
    from a fixed seed.
    """

    seen: int = 0
    _kept: F32 | None = field(default=None, repr=False)
    _random: np.random.Generator = field(
        default_factory=lambda: np.random.default_rng(0), repr=False
    )

    def update(self, x: NDArray[np.floating]) -> None:
        width = x.shape[-1] if x.ndim else 1
        rows = np.asarray(x, np.float32).reshape(-1, width)
        most = max(min(MOST_ROWS, MOST_VALUES // width), 1)
        kept = np.empty((0, width), np.float32) if self._kept is None else self._kept
        room = min(most - len(kept), len(rows))
        if room > 0:
            kept = np.concatenate([kept, rows[:room]])
        later = rows[max(room, 0) :]
        places = self._random.integers(
            0, self.seen + max(room, 0) + 1 + np.arange(len(later)), dtype=np.int64
        )
        for row, place in zip(later[places < most], places[places < most], strict=True):
            kept[place] = row
        self._kept = kept
        self.seen += len(rows)

    @property
    def rows(self) -> F32:
        """[N, width]; ValueError before the first update."""
        if self._kept is None:
            raise ValueError("no values were observed")
        return self._kept
