"""How a product has the inputs of a model: bytes of a camera, say, with channels last."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qcomp.errors import CompileError

TYPES = ("float32", "uint8", "int8")
LAYOUTS = (None, "NHWC")
EVERY = "*"
ARGMAX = "argmax"
OUTPUTS = (ARGMAX,)


@dataclass(frozen=True)
class InputForm:
    """The caller's array x, of which the model gets (x - mean) / std.

    type: of the array's elements.
    mean, std: one number, or one for each channel.
    layout: "NHWC" where the array has channels last and the model NCHW; None: as the model.
    """

    type: str = "float32"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str | None = None

    @staticmethod
    def of(where: str, fields: Any) -> InputForm:
        """Of the fields as a configuration has them; CompileError names the one that is wrong."""
        known = ("type", "mean", "std", "layout")
        if not isinstance(fields, Mapping) or any(name not in known for name in fields):
            raise CompileError(f"{where}: {fields!r}; expected some of {', '.join(known)}")
        form = InputForm(
            fields.get("type", "float32"),
            _numbers(where, "mean", fields.get("mean", 0.0)),
            _numbers(where, "std", fields.get("std", 1.0)),
            fields.get("layout"),
        )
        if form.type not in TYPES:
            raise CompileError(f"{where}: type={form.type!r}: expected one of {', '.join(TYPES)}")
        if form.layout not in LAYOUTS:
            raise CompileError(f"{where}: layout={form.layout!r}: expected 'NHWC' or none")
        if min(form.std) <= 0.0:
            raise CompileError(f"{where}: std={list(form.std)}: expected positive numbers")
        if 1 < len(form.mean) != len(form.std) > 1:
            raise CompileError(
                f"{where}: {len(form.mean)} means and {len(form.std)} deviations; expected as "
                "many, or one of either"
            )
        return form

    @property
    def channels(self) -> int:
        return max(len(self.mean), len(self.std))


def input_forms(inputs: Mapping[str, Any]) -> dict[str, InputForm]:
    """Of a configuration's `inputs`, by name."""
    return {name: InputForm.of(f"inputs: {name!r}", fields) for name, fields in inputs.items()}


def check_outputs(outputs: Mapping[str, Any]) -> None:
    """CompileError for what outputs can't be given as."""
    for name, kind in outputs.items():
        if kind not in OUTPUTS:
            raise CompileError(f"outputs: {name!r}: {kind!r}; expected {', '.join(OUTPUTS)}")


def _numbers(where: str, name: str, value: Any) -> tuple[float, ...]:
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    plain = [not isinstance(v, bool) and isinstance(v, int | float) for v in items]
    if not items or not all(plain) or not all(map(math.isfinite, items)):
        raise CompileError(f"{where}: {name}={value!r}: expected a number, or one for each channel")
    return tuple(map(float, items))
