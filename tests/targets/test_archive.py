"""Static libraries written without tools are what the tools expect."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from qcomp.targets.cpu.archive import archive, member

SOURCE = "int {name}_run(void) {{ return 42; }}\nconst int {name}_inputs[1] = {{ 7 }};\n"
MAIN = """
extern const int {name}_inputs[1];
int {name}_run(void);
int main(void) {{ return {name}_run() - 6 * {name}_inputs[0]; }}
"""


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}")
    return found


def library(cc: str, folder: Path, name: str) -> Path:
    (folder / "code.c").write_text(SOURCE.format(name=name))
    subprocess.run([cc, "-c", "code.c", "-o", "code.o"], cwd=folder, check=True)
    path = folder / f"lib{name}.a"
    content = (folder / "code.o").read_bytes()
    path.write_bytes(archive(f"{name}.o", content, (f"{name}_run", f"{name}_inputs")))
    return path


# Lengths of names that make the symbol index odd and even, and longer than a member's name may be.
@pytest.mark.parametrize("name", ["a", "ab", "net", "a_name_of_more_than_fifteen_characters"])
def test_a_compiler_links_it(name: str, cc: str, tmp_path: Path) -> None:
    library(cc, tmp_path, name)
    (tmp_path / "main.c").write_text(MAIN.format(name=name))
    subprocess.run([cc, "main.c", "-L.", f"-l{name}", "-o", "main"], cwd=tmp_path, check=True)
    subprocess.run([tmp_path / "main"], check=True)


def test_its_symbol_index_is_read(cc: str, tmp_path: Path) -> None:
    command = [tool("nm"), "-s", library(cc, tmp_path, "net")]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "net_run in net.o" in text
    assert "net_inputs in net.o" in text


def test_its_member_comes_out_again(cc: str, tmp_path: Path) -> None:
    path = library(cc, tmp_path, "net")
    content = (tmp_path / "code.o").read_bytes()
    assert member(path.read_bytes()) == content
    (tmp_path / "out").mkdir()
    subprocess.run([tool("ar"), "x", path], cwd=tmp_path / "out", check=True)
    assert (tmp_path / "out" / "net.o").read_bytes() == content


@pytest.mark.parametrize("size", [0, 1, 2, 1001])
def test_members_of_any_size(size: int) -> None:
    content = bytes(i % 251 for i in range(size))
    made = archive("net.o", content, ("net_run",))
    assert member(made) == content
    assert len(made) % 2 == 0


@pytest.mark.parametrize("broken", [b"", b"!<arch>\n", b"\x7fELF" * 40])
def test_what_is_no_static_library_is_a_value_error(broken: bytes) -> None:
    with pytest.raises(ValueError, match="static library"):
        member(broken)


def test_a_cut_library_is_a_value_error() -> None:
    made = archive("net.o", bytes(100), ("net_run",))
    for size in range(len(made)):
        with pytest.raises(ValueError, match="static library"):
            member(made[:size])
