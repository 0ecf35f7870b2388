"""The site has every page of docs/; where mkdocs is installed it is built without warnings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def package_script() -> Any:
    """.ci/package.py, which `make package` runs."""
    spec = spec_from_file_location("package_script", ROOT / ".ci" / "package.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_has_its_place_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r"([\w/-]+\.md)$", text, re.MULTILINE)
    pages = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    assert len(listed) == len(set(listed))
    assert set(listed) == pages | {"overview.md"}


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="the extra qcomp[docs] is not installed")
def test_the_site_is_built_without_warnings(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "overview" / "index.html").is_file()


def test_links_of_the_readme_are_absolute_on_an_index() -> None:
    absolute = package_script().with_absolute_links
    text = "[a](docs/cli.md#x) [b](https://x.org/y) [c](#here) ![d](e.png)"
    there, raw = "https://host.org/qcomp/blob/main", "https://host.org/qcomp/raw/main"
    assert absolute(text, "https://host.org/qcomp/") == (
        f"[a]({there}/docs/cli.md#x) [b](https://x.org/y) [c](#here) ![d]({raw}/e.png)"
    )
    readme = absolute((ROOT / "README.md").read_text("utf-8"), "https://host.org/qcomp")
    assert re.findall(r"\]\((?!https?:|#)[^)]*\)", readme) == []
    assert readme.count(f"]({there}/docs/") > 20


def test_the_sdist_has_every_tracked_file() -> None:
    """By the folders and files that MANIFEST.in names."""
    lines = (ROOT / "MANIFEST.in").read_text("utf-8").splitlines()
    folders = {line.split()[1] for line in lines if line.startswith("graft ")}
    files = {name for line in lines if line.startswith("include ") for name in line.split()[1:]}
    always = {"pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", ".gitignore"}
    tops = {path.name for path in ROOT.iterdir() if path.suffix != ".egg-info"}
    made = re.findall(r"^([\w.]+)/?$", (ROOT / ".gitignore").read_text("utf-8"), re.MULTILINE)
    assert tops - {*made, ".git"} - folders - files - always == set()
