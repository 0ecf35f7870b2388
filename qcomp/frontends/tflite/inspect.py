"""What a TFLite file is made of, and what qcomp can't take of it."""

from __future__ import annotations

from collections.abc import Mapping

from numpy.typing import ArrayLike

from qcomp.formats.tflite import VERSION
from qcomp.frontends.inspect import Inspection, inspection_of
from qcomp.frontends.tflite.importer import Model, attempt_import


def inspect_tflite(
    model: Model,
    *,
    bind: Mapping[str, int] | None = None,
    bind_values: Mapping[str, ArrayLike] | None = None,
) -> Inspection:
    """Unsupported operators are listed in `problems`; only a broken model raises ModelError."""
    attempt = attempt_import(model, bind or {}, bind_values or {})
    operators = [op.name for op in attempt.file.operators]
    version = f"TFLite schema {VERSION}"
    return inspection_of(attempt.graph, version, operators, attempt.notes, attempt.problems)
