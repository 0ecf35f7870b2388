"""Importers of foreign model formats by the kind of file; each is loaded when a model asks for it.

A format is known by the mark that its files have at a place near their beginning. ONNX has none,
and takes what no other format is known by.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from qcomp.files import open_regular

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from qcomp.frontends.inspect import Inspection
    from qcomp.frontends.model import ImportedModel, Importer, Inspector


class Serialized(Protocol):
    """A ModelProto of onnx."""

    def SerializeToString(self) -> bytes: ...


class Module(Protocol):
    """A module of PyTorch, or what torch.export made of one."""

    @property
    def state_dict(self) -> Any: ...


ModelLike = str | os.PathLike[str] | bytes | Serialized | Module
"""A trained network: the path or the bytes of a file, or an object of onnx or PyTorch."""


@dataclass(frozen=True)
class Format:
    """Files with `mark` from byte `place` on; objects that are no file have the mark b""."""

    mark: bytes
    place: int
    importer: Callable[[], Importer]
    inspector: Callable[[], Inspector]

    @property
    def end(self) -> int:
        return self.place + len(self.mark)

    def marks(self, beginning: bytes) -> bool:
        return beginning[self.place : self.end] == self.mark


def _onnx() -> Importer:
    from qcomp.frontends.onnx import import_onnx

    return import_onnx


def _inspect_onnx() -> Inspector:
    from qcomp.frontends.onnx import inspect_onnx

    return inspect_onnx


def _tflite() -> Importer:
    from qcomp.frontends.tflite import import_tflite

    return import_tflite


def _inspect_tflite() -> Inspector:
    from qcomp.frontends.tflite import inspect_tflite

    return inspect_tflite


def _archive() -> Callable[..., NoReturn]:
    from qcomp.frontends.torch_modules import refuse_archive

    return refuse_archive


FORMATS: Mapping[str, Format] = {
    "ONNX": Format(b"", 0, _onnx, _inspect_onnx),
    "an archive of torch": Format(b"PK\x03\x04", 0, _archive, _archive),
    "TFLite": Format(b"TFL3", 4, _tflite, _inspect_tflite),
}


def import_model(
    model: Any,
    *,
    bind: Mapping[str, int] | None = None,
    bind_values: Mapping[str, ArrayLike] | None = None,
) -> ImportedModel:
    """The graph of a model file, its bytes, or a ModelProto."""
    return format_of(model).importer()(model, bind=bind, bind_values=bind_values)


def inspect_model(
    model: Any,
    *,
    bind: Mapping[str, int] | None = None,
    bind_values: Mapping[str, ArrayLike] | None = None,
) -> Inspection:
    """What a model is made of, and every problem that an import would have with it."""
    return format_of(model).inspector()(model, bind=bind, bind_values=bind_values)


def format_of(model: Any) -> Format:
    """The format with the longest mark that the model has."""
    beginning = _beginning(model, max(known.end for known in FORMATS.values()))
    marked = [known for known in FORMATS.values() if known.marks(beginning)]
    return max(marked, key=lambda known: len(known.mark))


def _beginning(model: Any, size: int) -> bytes:
    """The first bytes of a file; none where it is none, or can't be read, as the importer says."""
    if isinstance(model, bytes):
        return model[:size]
    if not isinstance(model, str | os.PathLike):
        return b""
    try:
        with open_regular(Path(model)) as file:
            return file.read(size)
    except (OSError, ValueError):
        return b""
