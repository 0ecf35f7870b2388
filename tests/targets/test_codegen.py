"""Object code depends on the module's text alone, so that it may be kept under the text's hash."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kept_objects import KeptObjects
from llvmlite import binding as llvm

from qcomp.targets.cpu.isa import AARCH64, X86_64
from qcomp.targets.cpu.library.codegen import object_code

TEXT = "define i32 @f(i32 %x) {\n  %y = mul i32 %x, 7\n  ret i32 %y\n}"


@pytest.mark.parametrize("isa", [X86_64, AARCH64], ids=lambda isa: isa.name)
def test_the_same_text_gives_the_same_bytes(isa: object, tmp_path: Path) -> None:
    first = object_code(TEXT, isa.triple)
    assert object_code(TEXT, isa.triple) == first
    kept = KeptObjects(tmp_path)
    assert [kept(TEXT, isa.triple) for _ in range(2)] == [first, first]
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [first]


def test_another_text_or_machine_is_another_object(tmp_path: Path) -> None:
    kept = KeptObjects(tmp_path)
    objects = {
        kept(TEXT, X86_64.triple),
        kept(TEXT, AARCH64.triple),
        kept(TEXT.replace("7", "9"), X86_64.triple),
    }
    assert len(objects) == len(list(tmp_path.iterdir())) == 3


def test_text_that_is_not_valid_is_an_error_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="expected"):
        KeptObjects(tmp_path)("define nonsense", X86_64.triple)
    assert list(tmp_path.iterdir()) == []


def test_what_was_not_read_for_longest_is_forgotten(tmp_path: Path) -> None:
    for n in range(4):
        (tmp_path / str(n)).write_bytes(bytes(100))
        os.utime(tmp_path / str(n), (1000 + (n + 2) % 4, 0))
    KeptObjects(tmp_path).forget_oldest(most_bytes=250)
    assert {file.name for file in tmp_path.iterdir()} == {"0", "1"}


def test_the_version_of_llvm_is_part_of_what_objects_are_made_of() -> None:
    import kept_objects

    assert str(llvm.llvm_version_info) in kept_objects._GENERATOR
