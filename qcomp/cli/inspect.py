"""`qcomp inspect`: what a model or a saved directory is made of, and what would be refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from qcomp.cli.options import (
    Bindings,
    BoundValues,
    Json,
    ModelOrDirectory,
    parse_bindings,
    parse_values,
)

if TYPE_CHECKING:
    from qcomp.frontends.inspect import Inspection, Layer
    from qcomp.ir.tensor import TensorType


def inspect(
    model: ModelOrDirectory,
    bind: Bindings = None,
    bind_value: BoundValues = None,
    as_json: Json = False,
) -> None:
    """Show what a model is made of and what would be refused, or all facts of a directory."""
    if model.is_dir():
        if bind or bind_value:
            raise typer.BadParameter(f"{model} is compiled: nothing is left to bind")
        _inspect_directory(model, as_json=as_json)
        return
    from qcomp.frontends import inspect_model

    inspection = inspect_model(
        model, bind=parse_bindings(bind), bind_values=parse_values(bind_value)
    )
    typer.echo(json.dumps(summarize(inspection)) if as_json else report(inspection))


def _inspect_directory(directory: Path, *, as_json: bool) -> None:
    from qcomp.cli.facts import told
    from qcomp.debug.facts import Facts

    facts = Facts.of(directory)
    typer.echo(json.dumps(facts.json(), allow_nan=False) if as_json else told(facts))


def summarize(inspection: Inspection) -> dict[str, Any]:
    """The object that `--json` prints."""
    return {
        "name": inspection.name,
        "version": inspection.version,
        "inputs": _types(inspection.inputs),
        "outputs": _types(inspection.outputs),
        "operators": dict(inspection.operators),
        "layers": [{**vars(layer), "type": str(layer.type)} for layer in inspection.layers],
        "parameters": inspection.parameters,
        "macs": inspection.macs,
        "notes": list(inspection.notes),
        "problems": list(inspection.problems),
    }


def _types(tensors: Mapping[str, TensorType]) -> dict[str, str]:
    return {name: str(type) for name, type in tensors.items()}


def report(inspection: Inspection) -> str:
    """The report for people."""
    lines = [
        f"{inspection.name}, {inspection.version}",
        *(f"  input   {name}: {type}" for name, type in inspection.inputs.items()),
        *(f"  output  {name}: {type}" for name, type in inspection.outputs.items()),
        *_table(inspection.layers),
        "  " + ", ".join(f"{count} {op}" for op, count in inspection.operators.items()),
        f"  {inspection.parameters:,} parameters, {inspection.macs:,} MACs",
        *(f"  note: {note}" for note in inspection.notes),
    ]
    if inspection.problems:
        lines.append(f"  would be refused, {len(inspection.problems)} in all:")
        lines += [f"    {problem}" for problem in inspection.problems]
    else:
        lines.append("  nothing would be refused")
    return "\n".join(lines)


def _table(layers: Sequence[Layer]) -> list[str]:
    rows = [("op", "id", "result", "parameters", "MACs")]
    rows += [
        (layer.mnemonic, layer.id, str(layer.type), f"{layer.parameters:,}", f"{layer.macs:,}")
        for layer in layers
    ]
    kind, id, result, parameters, macs = (
        max(map(len, column)) for column in zip(*rows, strict=True)
    )
    return [
        f"  {k:<{kind}}  {i:<{id}}  {r:<{result}}  {p:>{parameters}}  {m:>{macs}}"
        for k, i, r, p, m in rows
    ]
