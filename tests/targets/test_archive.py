"""Static libraries written without tools are what the tools expect."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest

from qcomp.targets.cpu.isa import X86_64
from qcomp.targets.cpu.library.archive import archive, members
from qcomp.targets.cpu.library.objects import data_object
from qcomp.targets.cpu.platform import Platform
from qcomp.targets.cpu.process.host import native
from qcomp.targets.cpu.systems import LIBRARIES

X86 = X86_64.platform
SOURCE = """
__attribute__((visibility("hidden"))) extern const char {name}_data[];
int {name}_run(void) {{ return 6 * {name}_data[0]; }}
"""
MAIN = """
int {name}_run(void);
int main(void) {{ return {name}_run() - 42; }}
"""


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}")
    return found


def objects(cc: str, folder: Path, name: str) -> dict[str, bytes]:
    """Compiled code, and data that it refers to."""
    (folder / "code.c").write_text(SOURCE.format(name=name))
    subprocess.run([cc, "-c", "-fPIC", "code.c", "-o", "code.o"], cwd=folder, check=True)
    code = (folder / "code.o").read_bytes()
    data = data_object(native().platform, f"{name}_data", b"\7", 64)
    return {f"{name}.o": code, f"{name}_data.o": data}


def library(cc: str, folder: Path, name: str) -> Path:
    path = folder / f"lib{name}.a"
    path.write_bytes(archive(objects(cc, folder, name)))
    return path


# Lengths that make the symbol index odd and even, and of which none, one or both files have a name
# too long for a header.
NAMES = ["a", "ab", "net", "thirteen_char", "a_name_of_more_than_fifteen_characters"]


@pytest.mark.parametrize("name", NAMES)
def test_a_compiler_links_it(name: str, cc: str, tmp_path: Path) -> None:
    library(cc, tmp_path, name)
    (tmp_path / "main.c").write_text(MAIN.format(name=name))
    subprocess.run([cc, "main.c", "-L.", f"-l{name}", "-o", "main"], cwd=tmp_path, check=True)
    subprocess.run([tmp_path / "main"], check=True)


def test_its_symbol_index_is_read(cc: str, tmp_path: Path) -> None:
    command = [tool("nm"), "-s", library(cc, tmp_path, "net")]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "net_run in net.o" in text
    assert "net_data in net_data.o" in text


@pytest.mark.parametrize("name", NAMES)
def test_its_members_come_out_again(name: str, cc: str, tmp_path: Path) -> None:
    path = library(cc, tmp_path, name)
    expected = objects(cc, tmp_path, name)
    assert members(path.read_bytes()) == expected
    (tmp_path / "out").mkdir()
    subprocess.run([tool("ar"), "x", path], cwd=tmp_path / "out", check=True)
    assert {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()} == expected


def test_a_name_that_ends_another_is_not_taken_for_it() -> None:
    names = ["longer_than_fifteen_characters.o", "than_fifteen_characters.o", "n.o"]
    files = {n: data_object(X86, f"s{i}", bytes([i]), 64) for i, n in enumerate(names)}
    assert members(archive(files)) == files


@pytest.mark.parametrize("size", [0, 1, 2, 1001])
def test_members_of_any_size(size: int) -> None:
    content = data_object(X86, "net_data", b"", 64) + bytes(i % 251 for i in range(size))
    made = archive({"net.o": content, "other.o": content})
    assert members(made) == {"net.o": content, "other.o": content}
    assert len(made) % 2 == 0


@pytest.mark.parametrize("broken", [b"", b"!<arch>\n", b"\x7fELF" * 40])
def test_what_is_no_static_library_is_a_value_error(broken: bytes) -> None:
    with pytest.raises(ValueError, match="static library"):
        members(broken)


def test_a_cut_library_is_a_value_error() -> None:
    made = archive({f"{n}.o": data_object(X86, n, bytes(100), 64) for n in ("one", "a" * 40)})
    for size in range(len(made)):
        with pytest.raises(ValueError, match="static library"):
            members(made[:size])


def test_a_member_whose_long_name_is_missing_is_a_value_error() -> None:
    made = archive({"a" * 20 + ".o": data_object(X86, "n", b"", 64)})
    with pytest.raises(ValueError, match="static library with a member of the unknown name /99"):
        members(made.replace(b"/0 ", b"/99"))


@pytest.mark.parametrize("platform", [X86, LIBRARIES["arm64-macos"][0].platform])
def test_an_index_that_counts_more_than_it_has_is_a_value_error(platform: Platform) -> None:
    """By its first number, with which a reader would count for minutes."""
    made = archive({"n.o": data_object(platform, "n", b"", 64)})
    for at in range(8, 120):
        wrong = bytearray(made)
        wrong[at : at + 4] = b"\xff\xff\xff\xf0"
        with contextlib.suppress(ValueError):
            members(bytes(wrong))
