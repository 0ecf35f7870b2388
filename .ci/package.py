#!/usr/bin/env python3
"""Build the sdist and the wheel, and check them in fresh environments: `make package`.

The tracked files are copied aside. There README.md, which package indexes show, gets absolute
links, if pyproject.toml says where the sources are (`[project.urls] Source`). The wheel is built
from the sdist. Then, for each interpreter, an environment of its own has the wheel alone: commands
and a compilation run in an empty directory, and some of the sdist's tests against the wheel.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ("tests/test_extensions.py", "tests/test_quantizer.py", "tests/quant", "tests/ir")
LINK = re.compile(r"(!\[[^\]]*\]\(|\]\()(?!https?:|#|mailto:)([^)\s]+)(?=\))")
USE = """
import sys, numpy as np, qcomp
assert "site-packages" in qcomp.__file__, qcomp.__file__
examples = sys.argv[1]
net = qcomp.compile(f"{examples}/digits.onnx", calibration=f"{examples}/digits_calibration.npz")
images = np.load(f"{examples}/digits_test.npz")["images"][:50]
assert np.array_equal(net(images), net.specification(images))
net.save("digits")
assert np.array_equal(qcomp.load("digits")(images), net(images))
print("  a network was compiled, saved and loaded:", net)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="where both are left")
    parser.add_argument(
        "--python", action="append", help="an interpreter to check with; repeatable"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        sdist, wheel = built(place, options.output)
        print(f"{sdist.name}: {check_sdist(sdist)} files\n{wheel.name}: {check_wheel(wheel)} files")
        for python in options.python or [sys.executable]:
            check_installed(python, sdist, wheel, place)


def built(place: Path, output: Path) -> tuple[Path, Path]:
    """The sdist of the tracked files, and the wheel of the sdist."""
    stage = place / "sources"
    copy_tracked(stage)
    project = tomllib.loads((stage / "pyproject.toml").read_text("utf-8"))["project"]
    if source := project.get("urls", {}).get("Source"):
        readme = stage / "README.md"
        readme.write_text(with_absolute_links(readme.read_text("utf-8"), source), "utf-8")
    else:
        print("README.md keeps its relative links: pyproject.toml has no [project.urls] Source")
    builder = environment(sys.executable, place / "builder", "build>=1.2", "twine>=6")
    made = place / "made"
    run(builder, "-m", "build", "--outdir", made, stage)
    run(builder, "-m", "twine", "check", "--strict", *made.iterdir())
    output.mkdir(parents=True, exist_ok=True)
    return tuple(Path(shutil.copy(next(made.glob(p)), output)) for p in ("*.tar.gz", "*.whl"))  # type: ignore[return-value]


def copy_tracked(stage: Path) -> None:
    """The files of git, with its links."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, stage / name, follow_symlinks=False)


def with_absolute_links(text: str, source: str) -> str:
    """Of a page of the root: links to files of the repository by its address, pictures raw."""
    at = source.rstrip("/")

    def absolute(link: re.Match[str]) -> str:
        kind = "raw" if link[1].startswith("!") else "blob"
        return f"{link[1]}{at}/{kind}/main/{link[2]}"

    return LINK.sub(absolute, text)


# ---------------------------------------------------------------------- content


def check_sdist(sdist: Path) -> int:
    """Every tracked file is in it, as a file; how many it has."""
    with tarfile.open(sdist) as archive:
        inside = {m.name.partition("/")[2]: m for m in archive.getmembers() if not m.isdir()}
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    links = {"qcomp/passes", "qcomp/targets"}
    expected = set(listed.stdout.splitlines()) - links - {".gitignore"}
    if missing := sorted(expected - inside.keys()):
        sys.exit(f"{sdist.name} lacks {', '.join(missing[:10])} and maybe others; see MANIFEST.in")
    return len(inside)


def check_wheel(wheel: Path) -> int:
    """It has the package alone, all of its sources, and the metadata of pyproject.toml."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (n for n in names if n.endswith(".dist-info/METADATA"))
        fields = HeaderParser().parsestr(archive.read(metadata).decode())
    tops = {name.partition("/")[0] for name in names}
    if len(tops) != 2 or "qcomp" not in tops:
        sys.exit(f"{wheel.name} has {', '.join(sorted(tops))}; expected qcomp and its metadata")
    if missing := sorted(sources() - names):
        sys.exit(f"{wheel.name} lacks {', '.join(missing[:10])}")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    if fields.get_all("Classifier") != project["classifiers"]:
        sys.exit(f"{wheel.name}: its classifiers are not those of pyproject.toml")
    return len(names)


def sources() -> set[str]:
    """The Python files of the package, as a wheel names them."""
    folders = {"qcomp": "qcomp", "passes": "qcomp/passes", "targets": "qcomp/targets"}
    found = set()
    for folder, name in folders.items():
        for path in (ROOT / folder).rglob("*.py"):
            below = path.relative_to(ROOT / folder)
            if below.parts[0] not in ("passes", "targets"):
                found.add(f"{name}/{below.as_posix()}")
    return found


# ------------------------------------------------------------------------- use


def check_installed(python: str, sdist: Path, wheel: Path, place: Path) -> None:
    """The wheel in an environment of its own, and tests of the sdist against it."""
    version = subprocess.run(
        [python, "-c", "import platform; print(platform.python_version())"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    print(f"Python {version}", flush=True)
    own = environment(python, place / f"python-{version}", f"{wheel}[test]")
    empty = place / f"empty-{version}"
    empty.mkdir()
    with tarfile.open(sdist) as archive:
        archive.extractall(place / f"sdist-{version}", filter="data")
    (unpacked,) = (place / f"sdist-{version}").iterdir()
    run(own, "-I", "-c", USE, unpacked / "examples", cwd=empty)
    run(own.with_name("qcomp"), "doctor", cwd=empty, quiet=True)
    for folder in ("qcomp", "passes", "targets"):
        shutil.rmtree(unpacked / folder)  # so that the tests find the wheel
    run(own, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS, cwd=unpacked)


def environment(python: str, folder: Path, *packages: object) -> Path:
    """A fresh one with packages; its interpreter."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    own = folder / "bin" / "python"
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile")
    run(own, *pip, *packages)
    return own


def run(program: Path, *arguments: object, cwd: Path | None = None, quiet: bool = False) -> None:
    """SystemExit with what was run where it fails."""
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=quiet)
    if done.returncode:
        sys.exit(f"failed: {' '.join(command)}\n{(done.stderr or b'').decode()}")


if __name__ == "__main__":
    main()
