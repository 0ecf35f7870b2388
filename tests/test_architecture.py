"""docs/architecture.md draws every room of the tree, and names files that are there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
(PICTURE,) = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ROWS = dict(re.findall(r"^\| (\w+) \| [^|]+ \| ([^|]+) \|", PAGE, re.MULTILINE))
VERDICTS = dict(re.findall(r"^\| ([a-h]\d?) \|.*\| ([^|]+) \|$", PAGE, re.MULTILINE))
IMPORT = r"^ *from (qcomp[\w.]*) import"
MISSING = r"\*([a-z_0-9/]+\.py)\*"


def rooms() -> set[str]:
    """The packages, as paths inside of qcomp."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    names = project["tool"]["setuptools"]["packages"]
    return {name.removeprefix("qcomp.").replace(".", "/") for name in names if name != "qcomp"}


def test_every_room_has_its_line_in_the_picture() -> None:
    drawn = re.findall(r"^[ |+>-]*([a-z0-9_/]+) {2,}\S", PICTURE, re.MULTILINE)
    assert rooms() - set(drawn) == set()
    assert {room for room in drawn if "/" in room} <= rooms()


def test_every_file_and_folder_named_exists() -> None:
    named = re.findall(r"`((?:qcomp|passes|targets|tests|docs)(?:/[A-Za-z_0-9.]+)*)`", PAGE)
    assert len(named) > 40
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_what_is_said_to_be_missing_is_not_there() -> None:
    missing = re.findall(MISSING, PAGE)
    assert missing
    assert [path for path in missing if (ROOT / path).exists()] == []


def test_all_eight_extensions_are_answered() -> None:
    assert {name[0] for name in ROWS} == set("abcdefgh")
    answered = re.findall(r"^- \*\*(\w)", PAGE, re.MULTILINE)
    assert set(answered) == set("abcdefgh")


def test_every_verdict_is_natural() -> None:
    assert VERDICTS.keys() == ROWS.keys()
    assert [name for name, verdict in VERDICTS.items() if not verdict.startswith("natural")] == []
    assert [name for name, verdict in VERDICTS.items() if "awkward" in verdict] == []


def test_seams_that_no_product_goes_through_yet_are_held_by_a_test() -> None:
    proofs = {"b2": "targets/test_addresses", "c2": "targets/test_mixed"}
    proofs |= {"d2": "frontends/test_formats"}
    for name, test in proofs.items():
        (reason,) = re.findall(rf"^- .*\b{name}\b.*$", PAGE, re.MULTILINE)
        assert f"`tests/{test}.py`" in reason, name


def test_an_op_of_an_existing_kind_takes_as_many_files_as_are_listed() -> None:
    files = [*re.findall(r"`([^`]+\.py)`", ROWS["a"]), *re.findall(MISSING, ROWS["a"])]
    assert len(set(files)) == 10
    assert f"| natural, {len(files)} files |" in PAGE


def sources() -> dict[str, Path]:
    """Every source by its module's name."""
    folders = {"qcomp": "qcomp", "passes": "qcomp.passes", "targets": "qcomp.targets"}
    return {
        ".".join([package, *path.relative_to(ROOT / folder).with_suffix("").parts]): path
        for folder, package in folders.items()
        for path in (ROOT / folder).rglob("*.py")
        if path.relative_to(ROOT).parts[:2] not in {("qcomp", "passes"), ("qcomp", "targets")}
    }


def test_every_circle_of_two_modules_is_named() -> None:
    known = sources()
    imports = {
        (module, name)
        for module, path in known.items()
        for name in re.findall(IMPORT, path.read_text("utf-8"), re.MULTILINE)
        if name in known
    }
    assert len(imports) > 500
    in_circles = {a for a, b in imports if (b, a) in imports}
    named = re.search(r"^Two circles.*$", PAGE, re.MULTILINE)
    assert named is not None
    files = {str(known[module].relative_to(ROOT)) for module in in_circles}
    assert files == set(re.findall(r"`([^`]+)`", named[0]))
