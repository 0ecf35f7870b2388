"""Files of the user: devices are left as they are, writers do not mix, failures leave nothing."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from qcomp.errors import OutputError
from qcomp.files import open_regular, staged, write_file


def write(stage: Path, content: str) -> None:
    for name in ("a", "b", "manifest"):
        (stage / name).write_text(content)


def contents(folder: Path) -> dict[str, str]:
    return {f.name: f.read_text() for f in folder.iterdir()}


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            open_regular(path)
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)


def test_a_written_file_replaces_the_target_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    write_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_file(pipe, b"through")
    reader.join()
    assert read == [b"through"]
    assert pipe.is_fifo()


def test_a_file_that_can_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "file"):
        with pytest.raises(OutputError, match="can't write"):
            write_file(path, b"")
    assert list(tmp_path.iterdir()) == []


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
