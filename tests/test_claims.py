"""What README.md and docs/ say of options, targets, recipes, files and limits, the code has."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import re
from fractions import Fraction
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

import qcomp
from qcomp.cli.app import app
from qcomp.cli.options import TARGET_NAMES
from qcomp.config import ACTIVATION_BITS, RANGES, RECIPES, ROUNDINGS, WEIGHT_BITS
from qcomp.extensions import REGISTRIES
from qcomp.quant.qparams import SOFTMAX, SOFTMAX_16
from qcomp.targets.catalog import TARGETS

ROOT = Path(__file__).resolve().parent.parent
PAGES = {p.name: p.read_text("utf-8") for p in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]}
README = (ROOT / "README.md").read_text("utf-8")
PAGES["README.md of the root"] = README

GROUPS = {registry.group for registry in REGISTRIES}
SCRIPTS = [*(ROOT / "benchmarks").glob("*.py"), *ROOT.glob("examples/**/*.[pc]*")]
FOLDERS = ("passes", "targets", "benchmarks", "examples", "tests")
FILES = [
    *(str(path.relative_to(ROOT)) for path in (ROOT / "qcomp").rglob("*.py")),
    *(str(path.relative_to(ROOT)) for f in FOLDERS for path in (ROOT / f).rglob("*.py")),
    *(f"qcomp/{path.relative_to(ROOT)}" for f in FOLDERS[:2] for path in (ROOT / f).rglob("*.py")),
]

each_page = pytest.mark.parametrize("name", PAGES)


@cache
def options() -> set[str]:
    """Of every command, and those that the sources of our other programs have in quotes."""
    commands = get_command(app).commands.values()  # type: ignore[attr-defined]
    commands = [get_command(app), *commands]
    own = {o for command in commands for p in command.params for o in [*p.opts, *p.secondary_opts]}
    return own.union(*(re.findall(r'"(--[a-z-]+)"', path.read_text("utf-8")) for path in SCRIPTS))


@each_page
def test_every_option_named_exists(name: str) -> None:
    written = set(re.findall(r"(?<=[`\s/])--[a-z][a-z-]+", PAGES[name]))
    assert written - options() - {"--help"} == set()


@each_page
def test_every_command_named_exists(name: str) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert set(re.findall(r"`qcomp ([a-z]+)", PAGES[name])) <= set(commands)


@each_page
def test_every_name_of_the_package_exists(name: str) -> None:
    for attribute in set(re.findall(r"`qcomp\.([A-Za-z_]+)[(`]", PAGES[name])):
        known = attribute in qcomp.__all__ or f"qcomp.{attribute}" in GROUPS
        assert known or importlib.util.find_spec(f"qcomp.{attribute}"), attribute


@each_page
def test_every_file_named_exists(name: str) -> None:
    for path in set(re.findall(r"`([a-z_0-9/]+\.py)`", PAGES[name])):
        assert any(file.endswith(f"/{path}") or file == path for file in FILES), path


@each_page
def test_every_choice_named_is_a_field(name: str) -> None:
    fields = {f.name for f in dataclasses.fields(qcomp.QuantizationConfig)}
    written = re.findall(r"QuantizationConfig\(([^)]*)\)", PAGES[name])
    assert {key for text in written for key in re.findall(r"(\w+)=", text)} <= fields


@each_page
def test_nothing_that_exists_is_said_to_be_missing(name: str) -> None:
    existing = {*RANGES, *ROUNDINGS, *RECIPES, *TARGETS, "kullback"} - {"auto", "best", "nearest"}
    for paragraph in re.findall(r"^\*\*Not there yet.*?$", PAGES[name], re.MULTILINE):
        assert [word for word in existing if word in paragraph.lower()] == []


def test_help_texts_and_pages_name_every_target() -> None:
    listed = list(TARGETS)
    assert re.findall(r"[\w.:-]+\d?", TARGET_NAMES.replace(" or", ",")) == listed
    paragraph = re.search(r"^\*\*Targets\*\*.*$", README, re.MULTILINE)
    assert paragraph is not None
    assert [t for t in re.findall(r"`([^`]+)`", paragraph[0]) if t != "--target"] == listed
    row = re.search(r"^\| `--target T` \| (`native`.*)$", PAGES["cli.md"], re.MULTILINE)
    assert row is not None
    assert re.findall(r"`([^`]+)`", row[1]) == listed


def test_the_readme_names_the_recipes_and_the_bits() -> None:
    (choices,) = re.findall(r"^\*\*Choices\.\*\*(.*?)\n\n", README, re.MULTILINE | re.DOTALL)
    quoted = set(re.findall(r"`(?:--recipe )?([a-z-]+)`", choices))
    assert set(RECIPES) <= quoted
    bits = re.search(r"Weights can have ([\d, or]+) bits", choices)
    assert bits is not None
    assert [int(n) for n in re.findall(r"\d+", bits[1])] == list(WEIGHT_BITS)
    activations = re.search(r"activations (\d+) or (\d+) \(", choices)
    assert activations is not None
    assert tuple(int(n) for n in activations.groups()) == ACTIVATION_BITS


def test_the_fixed_scales_of_softmax_are_as_written() -> None:
    scales = re.search(r"the fixed scale (\S+) \((\S+) with 16 bits\)", README)
    assert scales is not None
    assert tuple(Fraction(s) for s in scales.groups()) == (SOFTMAX.scale, SOFTMAX_16.scale)


def test_the_arguments_of_compile_are_described() -> None:
    described = inspect.getdoc(qcomp.compile) or ""
    parameters = set(inspect.signature(qcomp.compile).parameters) - {"config", "progress"}
    assert {p for p in parameters if not re.search(rf"^{p}: ", described, re.MULTILINE)} == set()


def test_weights_of_few_bits_save_what_the_readme_says(examples: Path) -> None:
    """4, 2 and 1 bits take less each; 3 bits take what 4 do."""
    assert "of 4, 2 and 1 bits are stored in as many, of 3 in 4" in README
    size = {}
    for bits in WEIGHT_BITS:
        config = qcomp.QuantizationConfig(recipe="fast", weight_bits=bits, rounding="nearest")
        net = qcomp.compile(examples / "digits.onnx", config=config)
        size[bits] = net.weights_bytes
    assert size[8] > size[4] > size[2] > size[1]
    assert size[3] == size[4]
