"""Object code depends on text, triple and generator alone, so it may be kept under their hash."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from llvmlite import binding as llvm

from qcomp.targets.cpu.isa import AARCH64, X86_64
from qcomp.targets.cpu.library.codegen import generator, object_code
from qcomp.targets.cpu.library.kept import KeptObjects

TEXT = "define i32 @f(i32 %x) {\n  %y = mul i32 %x, 7\n  ret i32 %y\n}"
OTHER = TEXT.replace("7", "9")
TRIPLE = X86_64.triple


def kept_in(directory: Path) -> KeptObjects:
    """Of a directory that KeptObjects makes."""
    return KeptObjects(directory / "objects")


def files(kept: KeptObjects) -> list[Path]:
    return sorted(kept.directory.iterdir())


@pytest.mark.parametrize("isa", [X86_64, AARCH64], ids=lambda isa: isa.name)
def test_the_same_text_gives_the_same_bytes_of_one_file(isa: object, tmp_path: Path) -> None:
    kept, first = kept_in(tmp_path), object_code(TEXT, isa.triple)
    assert object_code(TEXT, isa.triple) == first
    assert [kept(TEXT, isa.triple) for _ in range(2)] == [first, first]
    (file,) = files(kept)
    assert file.read_bytes().endswith(first)


def test_what_is_kept_is_not_generated_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = kept_in(tmp_path)
    first = kept(TEXT, TRIPLE)
    monkeypatch.delattr("qcomp.targets.cpu.library.kept.object_code")
    assert kept(TEXT, TRIPLE) == first
    with pytest.raises(NameError):
        kept(OTHER, TRIPLE)


def test_another_text_or_machine_or_generator_is_another_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = kept_in(tmp_path)
    objects = {kept(TEXT, TRIPLE), kept(TEXT, AARCH64.triple), kept(OTHER, TRIPLE)}
    assert len(objects) == len(files(kept)) == 3
    monkeypatch.setattr(
        "qcomp.targets.cpu.library.kept.generator", lambda triple: "LLVM of tomorrow"
    )
    assert kept(TEXT, TRIPLE) in objects
    assert len(files(kept)) == 4


def test_the_generator_is_its_versions_and_options() -> None:
    said = generator(TRIPLE)
    assert ".".join(map(str, llvm.llvm_version_info)) in said
    assert "'opt': 3" in said


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[:-1],
    "checksum only": lambda content: content[:32],
    "longer": lambda content: content + b"\0",
    "a bit of the code": lambda content: content[:-9] + bytes([content[-9] ^ 4]) + content[-8:],
    "a bit of the checksum": lambda content: bytes([content[0] ^ 1]) + content[1:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_generated_again_and_replaced(damage: str, tmp_path: Path) -> None:
    kept = kept_in(tmp_path)
    code = kept(TEXT, TRIPLE)
    (file,) = files(kept)
    whole = file.read_bytes()
    file.write_bytes(DAMAGE[damage](whole))
    assert kept(TEXT, TRIPLE) == code
    assert file.read_bytes() == whole


def test_the_code_of_another_text_is_not_taken_under_this_ones_name(tmp_path: Path) -> None:
    kept, other = kept_in(tmp_path), kept_in(tmp_path / "other")
    code, foreign = kept(TEXT, TRIPLE), other(OTHER, TRIPLE)
    (file,), (from_elsewhere,) = files(kept), files(other)
    from_elsewhere.rename(file)
    assert kept(TEXT, TRIPLE) == code != foreign


def test_where_others_may_write_nothing_is_taken_or_kept(tmp_path: Path) -> None:
    kept = kept_in(tmp_path)
    code = kept(TEXT, TRIPLE)
    (file,) = files(kept)
    assert kept.directory.stat().st_mode & 0o077 == 0
    kept.directory.chmod(0o777)
    file.write_bytes(whole := file.read_bytes()[:-1])
    assert kept(TEXT, TRIPLE) == code
    assert kept(OTHER, TRIPLE) == object_code(OTHER, TRIPLE)
    assert files(kept) == [file]
    assert file.read_bytes() == whole


def test_a_directory_that_can_not_be_made_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert KeptObjects(tmp_path / "file" / "objects")(TEXT, TRIPLE) == object_code(TEXT, TRIPLE)


def test_text_that_is_not_valid_is_an_error_and_not_kept(tmp_path: Path) -> None:
    kept = kept_in(tmp_path)
    with pytest.raises(RuntimeError, match="expected"):
        kept("define nonsense", TRIPLE)
    assert not kept.directory.exists()


def test_what_was_not_used_for_longest_is_forgotten(tmp_path: Path) -> None:
    for n in range(4):
        (tmp_path / str(n)).write_bytes(bytes(100))
        os.utime(tmp_path / str(n), (0, 1000 + (n + 2) % 4))
    KeptObjects(tmp_path, most_bytes=250).forget_oldest()
    assert {file.name for file in tmp_path.iterdir()} == {"0", "1"}


def test_using_a_file_keeps_it_from_being_the_oldest(tmp_path: Path) -> None:
    kept = kept_in(tmp_path)
    kept(TEXT, TRIPLE)
    (file,) = files(kept)
    os.utime(file, (0, 0))
    kept(TEXT, TRIPLE)
    assert file.stat().st_mtime > 0


def test_the_directory_stays_below_its_limit_as_files_come(tmp_path: Path) -> None:
    kept = KeptObjects(tmp_path / "objects", most_bytes=3000)
    for n in range(100):
        kept(TEXT.replace("7", str(n)), TRIPLE)
    assert 0 < len(files(kept)) < 100


def keep_some(kept: KeptObjects) -> list[bytes]:
    return [kept(TEXT.replace("7", str(n % 5)), TRIPLE) for n in range(20)]


def test_processes_may_share_a_directory(tmp_path: Path) -> None:
    kept = kept_in(tmp_path)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        one, two = pool.map(keep_some, [kept, kept])
    assert one == two == keep_some(kept)
    assert len(files(kept)) == 5
