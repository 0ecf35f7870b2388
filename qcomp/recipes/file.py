"""Recipes as files: every field of a configuration, in YAML.

    version: 1
    weight_bits: 8
    range: mse
    overrides:
      logits: {activation_bits: 16}
      features/[0-3]/.*: {range: percentile}

A file may leave fields out; those keep their defaults. What `save` writes beside a library leaves
out none, so that the same file, model and calibration data give the same library.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from qcomp.config import RECIPES, QuantizationConfig
from qcomp.errors import CompileError, RecipeError, did_you_mean
from qcomp.files import open_regular
from qcomp.preprocessing import Preprocessing, plain, read

VERSION = 1
SUFFIXES = (".yaml", ".yml")
LARGEST = 4 << 20
_INTERVALS = ("range", "input_range")
_FIELDS = {f.name: f for f in dataclasses.fields(QuantizationConfig) if f.name != "recipe"}
_DEFAULTS = QuantizationConfig()


class _Loader(yaml.SafeLoader):
    """Without aliases: a few of them stand for more than any memory holds."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*name); expected plain fields and values")
        return super().compose_node(parent, index)


def recipe_text(config: QuantizationConfig) -> str:
    """The file of a configuration; the recipe that led to it is a comment."""
    document = {"version": VERSION, **fields_of(config)}
    text = yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=100)
    return (
        f"# The choices of a qcomp compilation, made by recipe {_one_line(config.recipe)}.\n{text}"
    )


def read_recipe(path: str | os.PathLike[str]) -> QuantizationConfig:
    """The configuration of a file, its `recipe` the path; RecipeError names what is wrong in it."""
    file = Path(path)
    document = _document(file)
    if document.pop("version", None) != VERSION:
        raise RecipeError(f"{file}: expected `version: {VERSION}`")
    try:
        return config_of(document, recipe=str(file))
    except CompileError as error:
        raise RecipeError(f"{file}: {error}") from error


def config_of(fields: Mapping[str, Any], *, recipe: str) -> QuantizationConfig:
    """The configuration of fields as YAML and JSON give them; CompileError for what is wrong."""
    if unknown := [str(name) for name in fields if name not in _FIELDS]:
        raise RecipeError(
            f"unknown {', '.join(unknown)}; expected some of {', '.join(_FIELDS)}"
            f"{did_you_mean(unknown[0], _FIELDS)}"
        )
    typed = {name: _typed(name, value) for name, value in fields.items()}
    return QuantizationConfig(recipe=recipe, **typed)


def fields_of(config: QuantizationConfig) -> dict[str, Any]:
    """What `config_of` takes: plain numbers, texts, lists and mappings."""
    return {name: _plain(getattr(config, name)) for name in _FIELDS}


def with_recipe_file(
    config: QuantizationConfig, recipe: str | os.PathLike[str] | None = None
) -> QuantizationConfig:
    """`config` with another recipe, if one is given; a recipe that is a file is read.

    A field that differs from its default was set by the caller, and stays.
    """
    if recipe is not None:
        config = dataclasses.replace(config, recipe=os.fspath(recipe))
    if config.recipe in RECIPES:
        return config
    if Path(config.recipe).suffix not in SUFFIXES:
        raise RecipeError(
            f"recipe={config.recipe!r}: expected one of {', '.join(RECIPES)}, or a .yaml file"
            f"{did_you_mean(config.recipe, RECIPES)}"
        )
    own = {n: v for n in _FIELDS if (v := getattr(config, n)) != getattr(_DEFAULTS, n)}
    return dataclasses.replace(read_recipe(config.recipe), **own)


def _document(file: Path) -> dict[Any, Any]:
    try:
        if file.stat().st_size > LARGEST:
            raise RecipeError(f"{file}: larger than {LARGEST >> 20} MiB; that is no recipe")
        with open_regular(file) as opened:
            document = yaml.load(opened.read().decode(), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{file} can't be read: {error}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise RecipeError(f"{file} is not YAML: {_one_line(str(error))}") from error
    if not isinstance(document, dict):
        raise RecipeError(f"{file}: expected fields and their values, as in `range: mse`")
    return dict(document)


def _typed(name: str, value: Any) -> Any:
    """A value of the type of the field's default; RecipeError for others.

    YAML has no tuples, and writes None as `null`.
    """
    if name == "preprocessing":
        return read(value)
    if name == "overrides":
        if not isinstance(value, Mapping):
            raise RecipeError("overrides: expected names with their fields")
        return {str(key): _typed_override(str(key), fields) for key, fields in value.items()}
    if name in ("inputs", "outputs"):  # which the configuration checks
        if not isinstance(value, Mapping):
            raise RecipeError(f"{name}: expected names with what they are")
        return value
    if name == "passes":
        if not isinstance(value, list):
            raise RecipeError("passes: expected a list of mappings")
        return tuple(value)
    if isinstance(value, list) and name in _INTERVALS:
        if not all(map(_is_number, value)):
            raise RecipeError(f"{name}: expected numbers, got {value!r}")
        return tuple(float(v) for v in value)
    default = getattr(_DEFAULTS, name)
    if isinstance(default, float) and not _is_number(value):
        raise RecipeError(f"{name}: expected a number such as {default!r}, got {value!r}")
    if isinstance(default, bool | int | tuple) and type(value) is not type(default):
        raise RecipeError(f"{name}: expected a value such as {_plain(default)!r}, got {value!r}")
    return value


def _is_number(value: Any) -> bool:
    """Of a size that floats have."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and (isinstance(value, float) or abs(value) <= sys.float_info.max)


def _typed_override(key: str, fields: Any) -> dict[str, Any]:
    if not isinstance(fields, Mapping):
        raise RecipeError(f"overrides: {key!r}: expected fields and their values, got {fields!r}")
    if unknown := [str(name) for name in fields if name not in _FIELDS]:
        raise RecipeError(f"overrides: {key!r}: unknown {', '.join(unknown)}")
    return {str(name): _typed(str(name), value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    """With lists for tuples."""
    if isinstance(value, Preprocessing):
        return plain(value)
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items()}
    return value


def _one_line(text: str) -> str:
    return " ".join(text.split())
