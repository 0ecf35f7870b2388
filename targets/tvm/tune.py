"""Which tiles are fastest on the device at hand: every kernel with every candidate, measured.

A trial is the whole network with one candidate for all its kernels, timed launch by launch beside
the network with the usual tiles. Each kernel keeps the candidate that gained most; the file of them
gives the same code without a device.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

from qcomp.errors import TargetError
from qcomp.targets.tvm.machine import Tiles

_CHANNELS = (2, 4, 8, 16)  # vectors of OpenCL have at most 16 elements
_PIXELS = (1, 2, 4, 7, 8, 14)
_THREADS = (1, 4, 8, 32, 64, 128, 256)
_ROUNDS = 5
_WORTH = 0.95  # of the usual time


def candidates(usual: Tiles | None, trials: int) -> list[Tiles]:
    """Others than the usual tiles, in an order that is always the same; no more than trials."""
    if usual is None:
        raise TargetError("kernels without threads have no tiles to tune")
    others = [
        replace(usual, channels=c, pixels=p, threads=t, few=min(usual.few, t))
        for c, p, t in itertools.product(_CHANNELS, _PIXELS, _THREADS)
    ]
    random.Random(0).shuffle(others)
    return [tiles for tiles in others if tiles != usual][:trials]


class Timed(Protocol):
    """A network on a device: the keys of its launches, and the least microseconds of each."""

    @property
    def keys(self) -> Sequence[str]: ...

    def times(self) -> Sequence[float]: ...


def ratios(usual: Timed, other: Timed) -> dict[str, float]:
    """By kernel, how long the other takes of the usual's time.

    They are timed by turns, so that what else the machine does meanwhile is the same for both.
    """
    rounds = [(usual.times(), other.times()) for _ in range(_ROUNDS)]
    least = [[min(times) for times in zip(*own, strict=True)] for own in zip(*rounds, strict=True)]
    sums: dict[str, list[float]] = {}
    for key, *both in zip(usual.keys, *least, strict=True):
        of_key = sums.setdefault(key, [0.0, 0.0])
        of_key[:] = [total + time for total, time in zip(of_key, both, strict=True)]
    return {key: theirs / max(ours, 1e-9) for key, (ours, theirs) in sums.items()}


@dataclass
class Best:
    """The tiles of each kernel that gained most; none where none gained what noise may be."""

    tiles: dict[str, Tiles] = field(default_factory=dict)
    least: dict[str, float] = field(default_factory=dict)

    def add(self, tiles: Tiles, found: Mapping[str, float]) -> None:
        for key, ratio in found.items():
            if ratio < self.least.get(key, _WORTH):
                self.least[key], self.tiles[key] = ratio, tiles

    def confirmed(self, again: Mapping[str, float]) -> dict[str, Tiles]:
        """Those that gain when all are measured once more: the best of many is lucky, too."""
        return {key: tiles for key, tiles in self.tiles.items() if again[key] < _WORTH}


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
