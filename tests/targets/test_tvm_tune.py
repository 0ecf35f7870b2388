"""Which tiles trials choose, and the file of them; without TVM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from qcomp.errors import TargetError
from qcomp.targets.tvm.machine import MANY, WIDE
from qcomp.targets.tvm.tune import Best, candidates, ratios, read, written


def test_candidates_are_other_tiles_and_always_the_same() -> None:
    for usual in (MANY, WIDE):
        some = candidates(usual, 20)
        assert usual not in some
        assert len(set(some)) == len(some) == 20
        assert candidates(usual, 30)[:20] == some
        assert all(tiles.few <= tiles.threads for tiles in candidates(usual, 10**6))
    with pytest.raises(TargetError, match="kernels without threads have no tiles to tune"):
        candidates(None, 3)


@dataclass
class Told:
    """A network whose times are given, one list for each round."""

    keys: Sequence[str]
    rounds: Iterator[Sequence[float]]

    def times(self) -> Sequence[float]:
        return next(self.rounds)


def test_kernels_are_compared_by_the_least_times_of_their_launches() -> None:
    usual = Told("aba", iter([[5.0, 7.0, 3.0], [4.0, 9.0, 6.0], *[[9.0] * 3] * 3]))
    other = Told("aba", iter([[9.0, 7.0, 2.0], [5.0, 14.0, 2.0], *[[9.0] * 3] * 3]))
    assert ratios(usual, other) == {"a": 1.0, "b": 1.0}


def test_each_kernel_keeps_the_tiles_that_gain_most() -> None:
    first, second = candidates(WIDE, 2)
    best = Best()
    best.add(first, {"a": 0.9, "b": 0.6, "c": 0.99})
    best.add(second, {"a": 0.7, "b": 0.8, "c": 1.5})
    assert best.tiles == {"a": second, "b": first}
    assert read(written(best.tiles)) == best.tiles
    assert best.confirmed({"a": 0.8, "b": 1.1, "c": 0.5}) == {"a": second}


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"a": 3}', '{"a": {"channels": 4}}'],
)
def test_what_is_no_file_of_tiles_is_refused(text: str) -> None:
    with pytest.raises(TargetError, match="no file of tiles: "):
        read(text)


def test_tiles_are_positive_integers() -> None:
    with pytest.raises(TargetError, match="expected positive integers"):
        read(written({"a": WIDE}).replace("16", "0"))
