"""A compiled network in builds: C, CMake, pkg-config, Rust, and Python without packages."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import qcomp
from qcomp.runtime.builds import loader
from qcomp.targets.base import ABI

Network = qcomp.CompiledNetwork
STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic")


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name}")
    return path


@pytest.fixture(scope="module")
def directory(dense: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dense.save(tmp_path_factory.mktemp("builds") / "dense", bindings=["rust"])


def numbers(text: str) -> list[float]:
    return [float(n) for n in text.split(":")[1].split()]


def test_the_example_runs_on_files_of_floats(
    dense: Network, directory: Path, tmp_path: Path, cc: str
) -> None:
    x = np.array([[0.5, -1.0, 0.25, 2.0]], np.float32)
    (tmp_path / "x").write_bytes(x.tobytes())
    source = [directory / "dense_example.c", directory / "libdense.a", f"-I{directory}"]
    subprocess.run([cc, "-std=c99", *STRICT, *source, "-o", tmp_path / "main"], check=True)
    for arguments, given in (([], np.zeros((1, 4), np.float32)), ([tmp_path / "x"], x)):
        done = subprocess.run([tmp_path / "main", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert_allclose(numbers(done.stdout), dense(given)[0], rtol=1e-4, atol=1e-4)
    done = subprocess.run([tmp_path / "main", __file__ + "."], capture_output=True, text=True)
    assert (done.returncode, done.stderr.endswith("expected 4 floats\n")) == (1, True)


def test_the_example_has_every_input_and_output(pair: Network, tmp_path: Path, cc: str) -> None:
    pair.save(tmp_path)
    command = [cc, "-std=c99", *STRICT, "pair_example.c", "libpair.a", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True)
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["sum", "product"]


MAIN = """
#include <stdio.h>
#include "dense.h"
int main(void) { return dense_check() == QCOMP_OK && dense_abi() == QCOMP_ABI ? 0 : 1; }
"""


@pytest.mark.parametrize("target", ["dense::dense", "dense::shared"])
def test_cmake_finds_it(target: str, directory: Path, tmp_path: Path, cc: str) -> None:
    (tmp_path / "main.c").write_text(MAIN)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.10)\nproject(app C)\n"
        "find_package(dense 1 REQUIRED)\nadd_executable(app main.c)\n"
        f"target_link_libraries(app {target})\n"
    )
    cmake = tool("cmake")
    configure = [cmake, "-S", tmp_path, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={directory}"]
    subprocess.run(configure, check=True, capture_output=True)
    subprocess.run([cmake, "--build", tmp_path / "b"], check=True, capture_output=True)
    subprocess.run([tmp_path / "b" / "app"], check=True)


def test_pkg_config_finds_it(directory: Path, tmp_path: Path, cc: str) -> None:
    command = [tool("pkg-config"), "--cflags", "--libs", "dense"]
    environment = {"PKG_CONFIG_PATH": str(directory), "PATH": "/usr/bin:/bin"}
    flags = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    (tmp_path / "main.c").write_text(MAIN)
    build = [cc, "main.c", *flags.stdout.split(), "-o", "main"]
    subprocess.run(build, cwd=tmp_path, check=True)
    subprocess.run([tmp_path / "main"], check=True)


def test_programs_ask_for_a_shared_library_of_this_interface(
    directory: Path, tmp_path: Path, cc: str
) -> None:
    (tmp_path / "main.c").write_text(MAIN)
    build = [cc, "main.c", f"-I{directory}", f"-L{directory}", "-ldense", "-o", "main"]
    subprocess.run([*build, f"-Wl,-rpath,{directory}"], cwd=tmp_path, check=True)
    subprocess.run([tmp_path / "main"], check=True)
    assert b"libdense.so.1\0" in (tmp_path / "main").read_bytes()
    assert (directory / "libdense.so.1").read_bytes() == (directory / "libdense.so").read_bytes()


def test_python_runs_it_without_packages(dense: Network, directory: Path) -> None:
    x = np.random.default_rng(2).normal(size=(20, 4)).astype(np.float32)
    script = (
        f"import sys, struct; sys.path.insert(0, {str(directory)!r}); import dense\n"
        "net = dense.Network()\n"
        "for line in sys.stdin:\n"
        "    q = net.quantized(0, map(float, line.split()))\n"
        "    print(*net.run(q)[0], ':', *net.dequantized(0, net.run(q)[0]))\n"
    )
    lines = "".join(" ".join(map(repr, map(float, row))) + "\n" for row in x)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], input=lines, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = done.stdout.splitlines()
    assert [[int(n) for n in row.split(":")[0].split()] for row in rows] == (
        dense.run_integer(dense.quantized(x)).tolist()
    )
    assert_allclose([numbers(row) for row in rows], dense(x), rtol=1e-5, atol=1e-5)


def test_python_refuses_inputs_of_another_size(dense: Network, directory: Path) -> None:
    sys.path.insert(0, str(directory))
    try:
        from importlib import import_module

        net = import_module("dense").Network()
    finally:
        sys.path.remove(str(directory))
        sys.modules.pop("dense")
    with pytest.raises(ValueError, match="input x: expected 4 bytes, got 3"):
        net.run(bytes(3))
    with pytest.raises(ValueError, match="expected 1 inputs, got 2"):
        net.run(bytes(4), bytes(4))


RUST = """
fn main() {
    let mut memory = vec![0u8; dense_sys::ARENA_BYTES + dense_sys::ARENA_ALIGN];
    let start = memory.as_ptr() as usize;
    let offset = (dense_sys::ARENA_ALIGN - start % dense_sys::ARENA_ALIGN) % dense_sys::ARENA_ALIGN;
    let arena = unsafe { memory.as_mut_ptr().add(offset) } as *mut core::ffi::c_void;
    let input = [1i8, -2, 3, -4];
    let mut output = [0i8; dense_sys::OUTPUT0_SIZE];
    let status = unsafe { dense_sys::dense_run(input.as_ptr(), output.as_mut_ptr(), arena) };
    assert_eq!(status, dense_sys::OK);
    let sizes = unsafe { *dense_sys::dense_sizes() };
    assert_eq!(sizes.arena_bytes as usize, dense_sys::ARENA_BYTES);
    println!("{:?}", output);
}
"""


@pytest.mark.slow
def test_rust_runs_it(dense: Network, directory: Path, tmp_path: Path) -> None:
    cargo = tool("cargo")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.rs").write_text(RUST)
    (tmp_path / "Cargo.toml").write_text(
        '[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n'
        f'[dependencies]\ndense-sys = {{ path = "{directory}" }}\n'
    )
    done = subprocess.run(
        [cargo, "run", "--offline", "--quiet"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    x = np.frombuffer(struct.pack("4b", 1, -2, 3, -4), np.int8).reshape(1, 4)
    assert done.stdout.strip() == str(dense.run_integer(x)[0].tolist())


def test_the_loader_asks_for_the_interface_of_today() -> None:
    """It is copied into directories, where it can't import the number."""
    assert loader._ABI == ABI


def test_bindings_that_there_are_not_are_named(dense: Network, tmp_path: Path) -> None:
    with pytest.raises(qcomp.OutputError, match="no bindings for cobol; accepted: rust"):
        dense.save(tmp_path / "out", bindings=["cobol"])
    assert list(tmp_path.iterdir()) == []


def test_a_header_of_another_build_is_found_out(
    dense: Network, directory: Path, models: Any, tmp_path: Path, cc: str
) -> None:
    header = (directory / "dense.h").read_text()
    arena = f"#define DENSE_ARENA_BYTES {dense.arena_bytes}\n"
    assert arena in header
    (tmp_path / "dense.h").write_text(header.replace(arena, "#define DENSE_ARENA_BYTES 64000\n"))
    (tmp_path / "main.c").write_text(MAIN)
    build = [cc, f"-I{tmp_path}", "main.c", directory / "libdense.a", "-o", "main"]
    subprocess.run(build, cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"]).returncode == 1
