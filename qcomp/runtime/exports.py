"""What qcomp decided, in the files of other tools: a format is a row of `FORMATS`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from qcomp.errors import CompileError
from qcomp.files import write_file
from qcomp.formats.calibration_table import table_text
from qcomp.ir.graph import Graph

Notes = tuple[str, ...]

_EXACT_SUMS = (
    "ONNX Runtime saturates sums of 8-bit products on x86 without VNNI, here too then; its session "
    'option session.x64quantprecision = "1" makes them exact'
)


@dataclass(frozen=True)
class Format:
    """`write(graph, path)` writes a QDQ graph and returns what is to be told of it.

    suffix: of the files that are known by it.
    """

    about: str
    write: Callable[[Graph, Path], Notes]
    suffix: str | None = None


def _qdq(graph: Graph, path: Path) -> Notes:
    from qcomp.exporters.onnx.model import export_qdq

    write_file(path, export_qdq(graph).SerializeToString())
    return (_EXACT_SUMS,)


def _tflite(graph: Graph, path: Path) -> Notes:
    from qcomp.exporters.tflite.model import export_tflite

    export = export_tflite(graph)
    write_file(path, export.model)
    return export.notes


def _encodings(graph: Graph, path: Path) -> Notes:
    """The float model that they are of has the same name, and ends in .onnx."""
    from qcomp.exporters.encodings import export_encodings

    export, beside = export_encodings(graph), path.with_suffix(".onnx")
    if beside == path:
        raise CompileError(f"{path}: the float model is written there; expected another suffix")
    write_file(path, (json.dumps(export.document, indent=1) + "\n").encode())
    write_file(beside, export.model.SerializeToString())
    return (f"the encodings are of the float model {beside}",)


def _calibration_table(graph: Graph, path: Path) -> Notes:
    """Of the tensors that have the values of the imported model's."""
    ranges = {}
    for tensor in graph.tensors():
        origin, q = tensor.origin, tensor.qparams
        if origin is None or origin.name is None or q is None:
            continue
        if not origin.rewritten_by and origin.scale is None:
            ranges[origin.name] = q.range
    every = sum(tensor.qparams is not None for tensor in graph.tensors())
    write_file(path, table_text(ranges).encode())
    return (f"{len(ranges)} of {every} tensors have the values of tensors of the model",)


FORMATS: Mapping[str, Format] = {
    "qdq": Format("ONNX with QuantizeLinear and DequantizeLinear", _qdq, ".onnx"),
    "tflite": Format("TensorFlow Lite of integers", _tflite, ".tflite"),
    "encodings": Format("AIMET's encodings, with the float model that they are of", _encodings),
    "calibration-table": Format("ONNX Runtime's calibration table", _calibration_table),
}


def export(graph: Graph | None, path: Path, format: str | None) -> Notes:
    """Write a QDQ graph; without a format, that of the file's suffix."""
    if graph is None:
        raise CompileError(
            "the network has no QDQ graph, which exports begin with: it came in integers, or an "
            "earlier version saved it; expected one of `qcomp compile` now"
        )
    known = {row.suffix: name for name, row in FORMATS.items() if row.suffix is not None}
    name = known.get(path.suffix) if format is None else format
    if name is None or name not in FORMATS:
        asked = f"{path}: no format" if format is None else f"format {format!r}"
        suffixes = ", ".join(f"{suffix} ({name})" for suffix, name in known.items())
        raise CompileError(
            f"{asked}; expected one of {', '.join(FORMATS)}, or the suffix {suffixes}"
        )
    return FORMATS[name].write(graph, path)
