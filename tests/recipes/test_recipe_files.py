"""Recipes as files: what is written is read again, and what is wrong is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from qcomp.config import QuantizationConfig
from qcomp.errors import RecipeError
from qcomp.ir.parse import parse
from qcomp.recipes.file import read_recipe, recipe_text, with_recipe_file
from qcomp.recipes.overrides import check_overrides

UNUSUAL = QuantizationConfig(
    weight_bits=4,
    per_channel=False,
    group_size=32,
    range="percentile",
    input_range=(-0.5, 2.0),
    equalize=False,
    bias_correction=None,
    rounding="gptq",
    overrides={
        "logits": {"activation_bits": 16, "range": (-3.0, 5.25)},
        "features/[0-3]/.*": {"weight_bits": 8},
    },
)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "net.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("config", [QuantizationConfig(), UNUSUAL], ids=["defaults", "unusual"])
def test_a_recipe_that_was_written_is_read_again(
    tmp_path: Path, config: QuantizationConfig
) -> None:
    path = written(tmp_path, recipe_text(config))
    assert read_recipe(path) == dataclasses.replace(config, recipe=str(path))


def test_fields_that_are_left_out_have_their_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, "version: 1\nweight_bits: 4\n")
    assert read_recipe(path) == QuantizationConfig(recipe=str(path), weight_bits=4)


def test_what_the_caller_sets_wins_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "version: 1\nweight_bits: 4\nrange: ema\n")
    config = with_recipe_file(QuantizationConfig(range="minmax"), path)
    assert (config.weight_bits, config.range) == (4, "minmax")


def test_named_recipes_read_no_file() -> None:
    assert with_recipe_file(QuantizationConfig(), "best") == QuantizationConfig(recipe="best")


def test_a_recipe_that_is_neither_a_name_nor_a_file() -> None:
    with pytest.raises(RecipeError, match=r"'quick': expected one of auto, fast, data-free, best"):
        with_recipe_file(QuantizationConfig(), "quick")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected fields and their values"),
        ("- 1\n", "expected fields and their values"),
        ("a: [1\n", "is not YAML"),
        ("!!python/object/apply:os.system ['true']\n", "is not YAML"),
        ("weight_bits: 4\n", "expected `version: 1`"),
        ("version: 2\n", "expected `version: 1`"),
        ("version: 1\nbits: 4\n", "unknown bits; expected some of weight_bits"),
        ("version: 1\nweight_bits: 5\n", "weight_bits=5: expected one of 8, 4, 3, 2, 1"),
        ("version: 1\nweight_bits: four\n", "weight_bits: expected a value such as 8, got 'four'"),
        ("version: 1\nper_channel: 1\n", "per_channel: expected a value such as True, got 1"),
        ("version: 1\nrange: [1, 0]\n", r"range=\(1.0, 0.0\): expected \(low, high\)"),
        ("version: 1\nrange: [1, yes]\n", "range: expected numbers"),
        (f"version: 1\nrange: [0, {10**400}]\n", "range: expected numbers"),
        ("version: 1\nmax_slowdown: slow\n", "max_slowdown: expected a number such as 1.1"),
        ("version: 1\ngroup_size: [1.0]\n", "group_size: expected a value such as 0, got"),
        ("version: 1\noverrides: [a]\n", "overrides: expected names with their fields"),
        ("version: 1\noverrides: {a: 4}\n", "'a': expected fields and their values, got 4"),
        ("version: 1\noverrides: {a: {equalize: true}}\n", "can't override equalize"),
        ("version: 1\noverrides: {a: {bits: 4}}\n", "'a': unknown bits"),
        ("version: 1\noverrides: {a: {weight_bits: 7}}\n", "'a': weight_bits=7"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe(written(tmp_path, text))
    assert "net.yaml" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="can't be read"):
        read_recipe(tmp_path / "none.yaml")


def test_a_file_of_endless_references_is_refused_without_being_expanded(tmp_path: Path) -> None:
    lines = ["version: 1", "a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    for last in ("x: 1", "range: *a11"):  # a text of 9^11 letters, if it were told
        with pytest.raises(RecipeError, match="is not YAML: it has an alias"):
            read_recipe(written(tmp_path, "\n".join([*lines, last]) + "\n"))


@pytest.mark.parametrize(
    ("key", "id", "mnemonic", "speaks"),
    [
        ("conv2d", "features/1", "conv2d", True),
        ("features/1", "features/1", "conv2d", True),
        ("features/.*", "features/1", "conv2d", True),
        ("features", "features/1", "conv2d", False),
        ("a.b(c", "a.b(c", None, True),
    ],
)
def test_an_override_speaks_of_ids_mnemonics_and_patterns(
    key: str, id: str, mnemonic: Any, speaks: bool
) -> None:
    config = QuantizationConfig(overrides={key: {"weight_bits": 4}})
    assert (config.at(id, mnemonic).weight_bits == 4) is speaks
    assert config.unmatched([(id, mnemonic)]) == ([] if speaks else [key])


def test_the_last_of_several_overrides_wins_field_by_field() -> None:
    config = QuantizationConfig(
        overrides={
            "conv2d": {"weight_bits": 4, "range": "ema"},
            "stem": {"weight_bits": 8},
        }
    )
    stem = config.at("stem", "conv2d")
    assert (stem.weight_bits, stem.range, stem.overrides) == (8, "ema", {})
    assert config.at("other", "dense") is config


def test_an_override_that_matches_nothing_is_a_mistake() -> None:
    graph = parse(
        "graph @net(%x: f32[1,4]) {\n  %features = reshape(%x) {shape=(1, 4)} : f32[1,4]\n"
        "  return y=%features\n}"
    )
    check_overrides([graph], QuantizationConfig(overrides={"x": {"range": "ema"}, "reshape": {}}))
    with pytest.raises(RecipeError, match=r"'feature' matches no layer.*did you mean features"):
        check_overrides([graph], QuantizationConfig(overrides={"feature": {"range": "ema"}}))
