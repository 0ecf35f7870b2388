"""What an ONNX model is made of, and what qcomp can't take of it."""

from __future__ import annotations

from collections.abc import Mapping

from numpy.typing import ArrayLike

from qcomp.frontends.inspect import Inspection, inspection_of
from qcomp.frontends.onnx.importer import Model, attempt_import


def inspect_onnx(
    model: Model,
    *,
    bind: Mapping[str, int] | None = None,
    bind_values: Mapping[str, ArrayLike] | None = None,
) -> Inspection:
    """Unsupported operators are listed in `problems`; only a broken model raises ModelError."""
    attempt = attempt_import(model, bind or {}, bind_values or {})
    operators = [node.op_type for node in attempt.model.graph.node]
    version = f"opset {attempt.model.opset}"
    return inspection_of(attempt.graph, version, operators, attempt.notes, attempt.problems)
