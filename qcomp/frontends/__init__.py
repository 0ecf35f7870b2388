"""Importers of foreign model formats; each is loaded when a model asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from qcomp.frontends.onnx import ImportedModel
    from qcomp.frontends.onnx.importer import Model


def import_model(
    model: Model,
    *,
    bind: Mapping[str, int] | None = None,
    bind_values: Mapping[str, ArrayLike] | None = None,
) -> ImportedModel:
    """The graph of a model file, its bytes, or a ModelProto."""
    from qcomp.frontends.onnx import import_onnx

    return import_onnx(model, bind=bind, bind_values=bind_values)
