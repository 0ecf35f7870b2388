"""Which tiles trials choose, and the file of them; without TVM."""

from __future__ import annotations

import pytest

from qcomp.errors import TargetError
from qcomp.targets.tvm.machine import MANY, WIDE
from qcomp.targets.tvm.tune import Measured, candidates, read, written


def test_candidates_begin_with_the_usual_and_are_always_the_same() -> None:
    for usual in (MANY, WIDE):
        some = candidates(usual, 20)
        assert some[0] == usual
        assert len(set(some)) == len(some) == 20
        assert candidates(usual, 30)[:20] == some
        assert all(tiles.few <= tiles.threads for tiles in candidates(usual, 10**6))
    with pytest.raises(TargetError, match="kernels without threads have no tiles to tune"):
        candidates(None, 3)


def test_each_kernel_keeps_the_tiles_of_its_least_time() -> None:
    first, second = candidates(WIDE, 2)
    measured = Measured()
    measured.add(first, ["a", "b", "a"], [5.0, 7.0, 3.0])
    measured.add(second, ["a", "b", "a"], [4.0, 6.0, 9.0])
    assert measured.tiles == {"a": first, "b": second}
    assert read(written(measured.tiles)) == measured.tiles


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
