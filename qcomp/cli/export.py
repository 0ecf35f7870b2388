"""`qcomp export`: a compiled network in the files of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcomp.cli.options import Directory, path_of_text


def _file(about: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(metavar="FILE", parser=path_of_text, help=about)
    return option


def export(
    directory: Directory,
    qdq: Annotated[
        Path | None, _file("ONNX of opset 19 with QuantizeLinear and DequantizeLinear.")
    ] = None,
    tflite: Annotated[Path | None, _file("TensorFlow Lite of integers.")] = None,
    encodings: Annotated[
        Path | None,
        _file("AIMET's encodings (JSON); the float model that they are of is beside them."),
    ] = None,
    calibration_table: Annotated[
        Path | None, _file("ONNX Runtime's calibration table (JSON).")
    ] = None,
) -> None:
    """Write the network of a directory as other tools read it."""
    import qcomp

    wanted = {
        "qdq": qdq,
        "tflite": tflite,
        "encodings": encodings,
        "calibration-table": calibration_table,
    }
    files = {format: path for format, path in wanted.items() if path is not None}
    if not files:
        raise typer.BadParameter(f"expected some of {', '.join(f'--{name}' for name in wanted)}")
    net = qcomp.load(directory)
    for format, path in files.items():
        notes = net.export(path, format)
        typer.echo("\n".join([f"{path}", *(f"  note: {note}" for note in notes)]))
