"""Which tiles are fastest on the device at hand: every kernel with every candidate, measured.

A trial is the whole network with one candidate for all its kernels, timed launch by launch. Each
kernel keeps the candidate of its least time; the file of them gives the same code without a device.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from qcomp.errors import TargetError
from qcomp.targets.tvm.machine import Tiles

_CHANNELS = (2, 4, 8, 16)  # vectors of OpenCL have at most 16 elements
_PIXELS = (1, 2, 4, 7, 8, 14)
_THREADS = (1, 4, 8, 32, 64, 128, 256)


def candidates(usual: Tiles | None, trials: int) -> list[Tiles]:
    """The usual tiles, then others in an order that is always the same; no more than trials."""
    if usual is None:
        raise TargetError("kernels without threads have no tiles to tune")
    others = [
        replace(usual, channels=c, pixels=p, threads=t, few=min(usual.few, t))
        for c, p, t in itertools.product(_CHANNELS, _PIXELS, _THREADS)
    ]
    random.Random(0).shuffle(others)
    return list(dict.fromkeys([usual, *others]))[:trials]


@dataclass
class Measured:
    """The best that trials found, by the keys of kernels."""

    tiles: dict[str, Tiles] = field(default_factory=dict)
    least: dict[str, float] = field(default_factory=dict)

    def add(self, tiles: Tiles, keys: Sequence[str], times: Sequence[float]) -> None:
        """A trial: the keys of its launches, and how long each took."""
        own: dict[str, float] = {}
        for key, time in zip(keys, times, strict=True):
            own[key] = min(time, own.get(key, time))
        for key, time in own.items():
            if key not in self.least or time < self.least[key]:
                self.least[key], self.tiles[key] = time, tiles


def written(tuned: Mapping[str, Tiles]) -> str:
    """The file, in which kernels are sorted."""
    return json.dumps({key: asdict(tuned[key]) for key in sorted(tuned)}, indent=1) + "\n"


def read(text: str) -> dict[str, Tiles]:
    """The tiles of a file; TargetError where it is none."""
    try:
        found = {key: Tiles(**fields) for key, fields in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise TargetError(f"no file of tiles: {error}; expected a NAME.tiles.json") from error
    for key, tiles in found.items():
        if any(not isinstance(v, int) or v < 1 for v in asdict(tiles).values()):
            raise TargetError(f"the tiles of {key} are {tiles}; expected positive integers")
    return found
