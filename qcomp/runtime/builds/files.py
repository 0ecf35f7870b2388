"""Which files a directory gets for builds, by name."""

from __future__ import annotations

from collections.abc import Collection
from importlib import resources

from qcomp.errors import OutputError
from qcomp.runtime.builds.cmake import cmake_config, cmake_version
from qcomp.runtime.builds.example import example_program
from qcomp.runtime.builds.package import Package
from qcomp.runtime.builds.pkgconfig import pkg_config
from qcomp.runtime.builds.rust import rust_crate

BINDINGS = ("rust",)  # on request


def expect_bindings(bindings: Collection[str]) -> None:
    """OutputError for languages that there are none for."""
    if unknown := [language for language in bindings if language not in BINDINGS]:
        raise OutputError(f"no bindings for {', '.join(unknown)}; accepted: {', '.join(BINDINGS)}")


def build_files(package: Package, bindings: Collection[str] = ()) -> dict[str, str]:
    """Texts by file name; OutputError for bindings that there are not."""
    expect_bindings(bindings)
    name = package.name
    files = {
        f"{name}Config.cmake": cmake_config(package),
        f"{name}ConfigVersion.cmake": cmake_version(),
        f"{name}.pc": pkg_config(package),
        f"{name}_example.c": example_program(package),
    }
    if package.shared is not None:
        loader = resources.files("qcomp.runtime.builds") / "loader.py"
        files[f"{name}.py"] = loader.read_text(encoding="utf-8")
    if "rust" in bindings:
        files |= rust_crate(package)
    return files
