"""Progress where there is no terminal: a line now and then, with the time left."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from qcomp.progress import Lines, bar, tracked


def ticking(seconds: float) -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += seconds


def told(seconds: float, steps: int, total: int | None) -> list[str]:
    """The lines of steps that take so many seconds each."""
    clock, stream = ticking(seconds), io.StringIO()
    lines = Lines("trying ranges", total, stream, lambda: next(clock))
    for _ in range(steps):
        lines.advance()
    return stream.getvalue().splitlines()


def test_what_is_soon_done_is_not_told_of() -> None:
    assert told(0.9, 11, 20) == []


def test_the_share_and_the_time_left_are_told_every_ten_seconds() -> None:
    assert told(4.0, 6, 20) == [
        "trying ranges: 15 % in 12 s, about 68 s left",
        "trying ranges: 30 % in 24 s, about 56 s left",
    ]


def test_without_a_total_the_count_is_told() -> None:
    assert told(10.0, 1, None) == ["trying ranges: 1 done in 10 s"]


def test_what_is_told_beside_the_count_stands_behind_it() -> None:
    clock, stream = ticking(12.0), io.StringIO()
    lines = Lines("trying ranges", 4, stream, lambda: next(clock))
    lines.advance()
    lines.tell("until now 30.1 to 31.4 dB")
    lines.advance()
    assert stream.getvalue().splitlines() == [
        "trying ranges: 25 % in 12 s, about 36 s left",
        "trying ranges: 50 % in 24 s, about 24 s left; until now 30.1 to 31.4 dB",
    ]


@pytest.mark.parametrize("shown", [True, False])
def test_quick_work_leaves_a_log_as_it_was(capsys: pytest.CaptureFixture[str], shown: bool) -> None:
    assert list(tracked(range(3), "calibrating", 3, shown=shown)) == [0, 1, 2]
    with bar("calibrating", 3, shown=shown) as one:
        one.advance()
        one.reach(3, 3)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar_with_the_count() -> None:
    code = (
        "from qcomp.progress import tracked\n"
        "print(list(tracked(range(3), 'calibrating', 3, shown=True)))"
    )
    ours, theirs = os.openpty()
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert (done.returncode, done.stdout) == (0, b"[0, 1, 2]\n")
    assert "calibrating" in shown
    assert "3/3" in shown
