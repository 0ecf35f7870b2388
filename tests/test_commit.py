"""An output directory is replaced in one step: writers do not mix, kills leave old or new files."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import qcomp.runtime.commit
from qcomp.errors import OutputError
from qcomp.runtime.commit import staged

NAMES = ("a", "b", "manifest")


def write(stage: Path, content: str) -> None:
    for name in NAMES:
        (stage / name).write_text(content)


def contents(folder: Path) -> dict[str, str]:
    return {f.name: f.read_text() for f in folder.iterdir()}


def replace(out: Path) -> None:
    with staged(out, last="manifest", obsolete=lambda there: {"old.dll", "a"}) as stage:
        write(stage, "new")


def earlier(out: Path) -> dict[str, str]:
    """A directory that an earlier writer and the user have put files in."""
    out.mkdir()
    write(out, "old")
    (out / "old.dll").write_text("old")
    (out / "main.c").write_text("mine")
    return contents(out)


REPLACED = {**dict.fromkeys(NAMES, "new"), "main.c": "mine"}


def fail_beside_another_writer(folder: Path) -> None:
    with staged(folder / "shared" / "out", last="manifest") as stage:
        write(stage, "half")
        (folder / "theirs").write_text("")
        raise KeyboardInterrupt


def test_a_failure_takes_new_parents_away_but_not_what_others_put_there(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fail_beside_another_writer(tmp_path / "new")
    assert [f.name for f in (tmp_path / "new").iterdir()] == ["theirs"]


def test_two_writers_of_one_new_directory_both_succeed(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with staged(out, last="manifest") as first:
        write(first, "first")
        with staged(out, last="manifest") as second:
            write(second, "second")
        assert set(contents(out).values()) == {"second"}
    assert contents(out) == {"a": "first", "b": "first", "manifest": "first"}
    assert [f.name for f in out.parent.iterdir()] == ["out"]


def test_writers_of_one_directory_do_not_mix(tmp_path: Path) -> None:
    def writer(content: str) -> None:
        for _ in range(50):
            with staged(tmp_path, last="manifest") as stage:
                write(stage, content)

    writers = [threading.Thread(target=writer, args=(c,)) for c in "xyz"]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    assert set(contents(tmp_path)) == {"a", "b", "manifest"}
    assert len(set(contents(tmp_path).values())) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs locks of folders")
def test_a_writer_that_waited_for_a_directory_waits_for_the_one_that_took_its_place(
    tmp_path: Path,
) -> None:
    out, theirs = tmp_path / "out", tmp_path / "theirs"
    earlier(out)
    earlier(theirs)
    writer = threading.Thread(target=replace, args=(out,))
    with locked(theirs):
        with locked(out):
            writer.start()
            assert is_alive_after(writer, 0.1)
            out.rename(tmp_path / "before")
            theirs.rename(out)
        assert is_alive_after(writer, 0.1)
        assert contents(out) != REPLACED
    writer.join()
    assert contents(out) == REPLACED


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """As another writer locks it."""
    import fcntl  # Windows has none

    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def is_alive_after(thread: threading.Thread, seconds: float) -> bool:
    thread.join(seconds)
    return thread.is_alive()


def test_files_of_the_user_stay_and_those_of_an_earlier_build_go(tmp_path: Path) -> None:
    earlier(tmp_path / "out")
    (tmp_path / "out").chmod(0o750)
    (tmp_path / "out" / "link").symlink_to("nowhere")
    (tmp_path / "name").symlink_to("out")
    before = (tmp_path / "out" / "main.c").stat()
    replace(tmp_path / "name")
    (tmp_path / "out" / "link").unlink()
    assert contents(tmp_path / "out") == REPLACED
    assert (tmp_path / "out" / "main.c").stat().st_ino == before.st_ino
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750
    assert {f.name for f in tmp_path.iterdir()} == {"out", "name"}


def test_folders_of_the_user_and_the_working_directory_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, inside = tmp_path / "out", tmp_path / "out" / "folder" / "file"
    earlier(out)
    inside.parent.mkdir()
    inside.write_text("mine")
    replace(out)
    assert inside.read_text() == "mine"
    inside.unlink()
    inside.parent.rmdir()
    assert contents(out) == REPLACED
    monkeypatch.chdir(out)
    before = Path.cwd().stat().st_ino
    replace(Path("."))
    assert out.stat().st_ino == before


def test_systems_that_do_not_exchange_replace_files_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier(tmp_path / "out")
    monkeypatch.setattr(qcomp.runtime.commit, "exchange", lambda one, other: False)
    replace(tmp_path / "out")
    assert contents(tmp_path / "out") == REPLACED


SYSTEM = {"os", "open", "fcntl", "shutil", "tempfile", "ctypes"}


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk at each step of each try takes seconds."""
    monkeypatch.setattr(os, "fsync", lambda opened: None)


@contextmanager
def at_each_step(number: int, act: Callable[[], None]) -> Iterator[list[str]]:
    """Acts before step `number` of what asks the system for something; the steps of so far."""
    steps: list[str] = []
    active = [True]

    def hook(event: str, arguments: object) -> None:
        if active and event.split(".")[0] in (
            "os",
            "open",
            "fcntl",
            "shutil",
            "tempfile",
            "ctypes",
        ):
            steps.append(event)
            if len(steps) == number:
                act()

    sys.addaudithook(hook)  # stays for ever, so it is told when to sleep
    try:
        yield steps
    finally:
        active.clear()


def died(work: Callable[[], None], number: int) -> bool:
    """Whether a process that is killed before step `number` came so far."""
    child = os.fork()
    if child == 0:
        with at_each_step(number, lambda: os._exit(1)):
            work()
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork, and a system that exchanges")
def test_a_kill_at_any_step_leaves_the_old_files_or_the_new(tmp_path: Path, unsynced: None) -> None:
    outcomes, number, alive = [], 0, True
    while alive:
        number += 1
        out = tmp_path / f"{number}" / "out"
        out.parent.mkdir()
        old = earlier(out)
        alive = died(lambda out=out: replace(out), number)  # type: ignore[misc]
        assert contents(out) in (old, REPLACED), number
        outcomes.append(contents(out) == REPLACED)
        replace(out)  # and the next writer sweeps what it left
        assert [f.name for f in out.parent.iterdir()] == ["out"]
        assert contents(out) == REPLACED
    assert number > 20
    assert outcomes == sorted(outcomes)
    assert not outcomes[0]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a system that exchanges")
def test_an_error_at_any_step_leaves_the_old_files_or_the_new(
    tmp_path: Path, unsynced: None
) -> None:
    def fail() -> None:
        raise OSError(5, "no luck")

    number, failed = 0, True
    while failed:
        number += 1
        out = tmp_path / f"{number}" / "out"
        out.parent.mkdir()
        old = earlier(out)
        with at_each_step(number, fail) as steps, suppress(OutputError):
            replace(out)
        failed = len(steps) >= number
        assert contents(out) in (old, REPLACED), (number, steps[-1])
    assert number > 20
