"""One import package from three top-level directories: what is listed, linked and importable."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {
    "qcomp": ROOT / "qcomp",
    "qcomp.passes": ROOT / "passes",
    "qcomp.targets": ROOT / "targets",
}


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def packages_on_disk() -> set[str]:
    found = set()
    for name, directory in SOURCES.items():
        for init in directory.rglob("__init__.py"):
            below = init.parent.relative_to(directory)
            if below.parts[:1] not in [("passes",), ("targets",)]:  # the links
                found.add(".".join([name, *below.parts]))
    return found


def python(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], cwd=cwd, capture_output=True, text=True)


def test_every_package_on_disk_is_listed_for_the_wheel() -> None:
    listed = project()["tool"]["setuptools"]["packages"]
    assert isinstance(listed, list)
    assert sorted(listed) == listed
    assert set(listed) == packages_on_disk()


@pytest.mark.parametrize("name", ["cpu", "tvm"])
def test_the_c_sources_go_into_the_wheel(name: str) -> None:
    patterns = project()["tool"]["setuptools"]["package-data"][f"qcomp.targets.{name}"]
    folder = ROOT / "targets" / name
    listed = {path for pattern in patterns for path in folder.glob(pattern)}
    assert listed == set((folder / "c").iterdir())


def test_what_a_report_is_made_of_goes_into_the_wheel() -> None:
    (pattern,) = project()["tool"]["setuptools"]["package-data"]["qcomp.report"]
    folder = ROOT / "qcomp" / "report"
    assert {path.name for path in folder.glob(pattern)} == {"page.css", "page.js"}


def test_every_directory_of_sources_is_a_package() -> None:
    for directory in SOURCES.values():
        for source in directory.rglob("*.py"):
            assert (source.parent / "__init__.py").is_file(), source


@pytest.mark.parametrize("name", ["passes", "targets"])
def test_links_point_to_the_top_level_directories(name: str) -> None:
    link = ROOT / "qcomp" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name


@pytest.mark.parametrize("name", ["passes", "targets"])
def test_no_top_level_module_is_importable_from_elsewhere(name: str, tmp_path: Path) -> None:
    result = python("-I", "-c", f"import {name}", cwd=tmp_path)
    assert f"No module named '{name}'" in result.stderr


@pytest.mark.parametrize("name", ["passes", "targets"])
def test_the_wrong_import_name_is_refused_at_the_root(name: str) -> None:
    result = python("-c", f"import {name}", cwd=ROOT)
    assert f"import qcomp.{name}, not {name}" in result.stderr


@pytest.mark.parametrize("cwd", [ROOT, ROOT / "examples"])
def test_the_package_is_importable_from_the_root_and_from_elsewhere(cwd: Path) -> None:
    result = python("-c", "import qcomp, qcomp.passes, qcomp.targets", cwd=cwd)
    assert result.returncode == 0, result.stderr


def test_importing_qcomp_needs_neither_onnxruntime_nor_torch_nor_tvm(tmp_path: Path) -> None:
    code = (
        "import sys, qcomp; print([m for m in ('onnxruntime', 'torch', 'tvm') if m in sys.modules])"
    )
    assert python("-I", "-c", code, cwd=tmp_path).stdout.strip() == "[]"


def test_the_tests_are_no_package_and_their_file_names_are_unique() -> None:
    names = [p.name for p in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))
    assert not list((ROOT / "tests").rglob("__init__.py"))
