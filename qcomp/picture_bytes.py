"""Pictures for inputs of bytes: what a pixel becomes is computed in the library, not before it.

Where the caller has an input as uint8, the bytes of a picture are the input, and the factors and
offsets of `preprocessing` go to the input's form (x - mean) / std.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from qcomp.config import QuantizationConfig
from qcomp.errors import CompileError
from qcomp.preprocessing import BYTE, Preprocessing

BYTES = "uint8"


def with_picture_bytes(config: QuantizationConfig, *, pictures: bool) -> QuantizationConfig:
    """The configuration with what pixels become said of the inputs of bytes alone.

    pictures: whether the data are pictures, which are then taken as `Preprocessing()` says where
    the configuration has none. CompileError where a mean or a deviation is given in both places.
    """
    forms = {n: f for n, f in config.inputs.items() if f.get("type") == BYTES}
    how = config.preprocessing or (Preprocessing() if pictures else None)
    if not forms or how is None:
        return config
    layouts = {f.get("layout") for f in forms.values()}
    plain = dataclasses.replace(
        how,
        white=BYTE,
        mean=(0.0,),
        std=(1.0,),
        layout="nhwc" if layouts == {"NHWC"} else how.layout,
    )
    if _values(how) == _values(plain):  # pixels are the input as they are
        return dataclasses.replace(config, preprocessing=plain)
    said = _values(how) != _values(Preprocessing())
    inputs = {n: _with_values(n, f, how, said) for n, f in forms.items()}
    return dataclasses.replace(config, preprocessing=plain, inputs={**config.inputs, **inputs})


def _values(how: Preprocessing) -> tuple[Any, ...]:
    return how.mean, how.std, how.white


def _with_values(
    name: str, fields: Mapping[str, Any], how: Preprocessing, said: bool
) -> Mapping[str, Any]:
    """The fields of a form, whose own mean and deviation are of bytes."""
    if {"mean", "std"} & fields.keys():
        if said:
            raise CompileError(
                f"inputs: {name!r} has a mean or a deviation of its own, and the preprocessing of "
                "pictures has one too; expected one of them"
            )
        return fields
    mean, std = ([v * BYTE / how.white for v in values] for values in (how.mean, how.std))
    return {**fields, "mean": mean, "std": std}
