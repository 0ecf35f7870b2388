"""`qcomp compile`: a model becomes a directory with its library, header and test vectors."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import qcomp
from qcomp.cli.options import (
    TARGET_NAMES,
    Bindings,
    BoundValues,
    Cache,
    Json,
    Model,
    limited,
    one_of,
    parse_bindings,
    parse_values,
    path_of_text,
)
from qcomp.config import (
    ACTIVATION_BITS,
    AUTO,
    RANGES,
    RECIPES,
    ROUNDINGS,
    WEIGHT_BITS,
    QuantizationConfig,
)

if TYPE_CHECKING:
    from qcomp.runtime.interface import TensorInfo
    from qcomp.runtime.network import CompiledNetwork

DEFAULTS = QuantizationConfig()


def compile(
    model: Model,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", parser=path_of_text, help="Written to."),
    ],
    target: Annotated[str, typer.Option(metavar="T", help=f"{TARGET_NAMES}.")] = "native",
    device_ops: Annotated[
        str | None,
        typer.Option(metavar="OP,OP", help="Of targets A+B, A takes these ops only."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE_OR_DIR", help="A .npy or .npz file, or a directory of .npy."),
    ] = None,
    bind: Bindings = None,
    bind_value: BoundValues = None,
    recipe: Annotated[
        str, typer.Option(help=f"{', '.join(RECIPES)}, or a .yaml file with every choice.")
    ] = DEFAULTS.recipe,
    weight_bits: Annotated[
        int, typer.Option("--weight-bits", metavar="B", help=f"{one_of(WEIGHT_BITS)}.")
    ] = DEFAULTS.weight_bits,
    activation_bits: Annotated[
        int | None,
        typer.Option(
            "--activation-bits",
            metavar="B",
            help=f"{one_of(ACTIVATION_BITS)}; default: 8, and 16 where recipe auto finds that "
            "8 fall short.",
        ),
    ] = None,
    max_slowdown: Annotated[
        float,
        typer.Option(
            "--max-slowdown",
            metavar="X",
            help="Time that accuracy may cost where recipe auto decides, over 8 bits everywhere.",
        ),
    ] = DEFAULTS.max_slowdown,
    per_tensor: Annotated[
        bool, typer.Option("--per-tensor", help="One weight scale per tensor, not per channel.")
    ] = False,
    range: Annotated[
        str,
        typer.Option(
            "--range", help=f"How activation ranges are estimated: auto, {', '.join(RANGES)}."
        ),
    ] = AUTO,
    rounding: Annotated[
        str, typer.Option(help=f"How weights are rounded: auto, {', '.join(ROUNDINGS)}.")
    ] = AUTO,
    input_range: Annotated[
        tuple[float, float],
        typer.Option(
            "--input-range",
            metavar="LOW HIGH",
            help="The interval of the inputs, where there is no calibration data.",
        ),
    ] = DEFAULTS.input_range,
    float_tail: Annotated[
        bool,
        typer.Option(
            "--float-tail",
            help="Leave the sigmoid or softmax by which an output ends to the header's floats.",
        ),
    ] = False,
    dump: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write text, log and difference of every pass."),
    ] = None,
    cache: Cache = None,
    no_object_cache: Annotated[
        bool, typer.Option("--no-object-cache", help="Generate all code anew, and keep none.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="C name of the network; default: the file's name.")
    ] = None,
    threads_pool: Annotated[
        bool,
        typer.Option("--threads-pool", help="Also write C sources of a thread pool for its runs."),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Findings are an error, and nothing is written.")
    ] = False,
    min_sqnr_db: Annotated[
        float | None,
        typer.Option(
            "--min-sqnr-db",
            metavar="DB",
            help="An output, or a part of one, that is less accurate is an error.",
        ),
    ] = None,
    tune: Annotated[
        int,
        typer.Option(
            "--tune",
            metavar="N",
            min=0,
            help="Trials of how a device's kernels share work.",
        ),
    ] = 0,
    tiles: Annotated[
        Path | None,
        typer.Option(
            "--tiles", metavar="FILE", help="What trials chose, a NAME.tiles.json: the same code."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compile a float network to an integer-only C library."""
    bindings, values = parse_bindings(bind), parse_values(bind_value)
    config = QuantizationConfig(
        recipe=recipe,
        weight_bits=weight_bits,
        activation_bits=AUTO if activation_bits is None else activation_bits,
        max_slowdown=max_slowdown,
        per_channel=not per_tensor,
        range=range,
        rounding=rounding,
        input_range=input_range,
        float_tail=float_tail,
    )
    began = time.perf_counter()
    net = qcomp.compile(
        model,
        target if device_ops is None else limited(target, device_ops),
        calibration=calibration,
        config=config,
        bind=bindings,
        bind_values=values,
        dump=dump,
        cache=cache,
        object_cache=None if no_object_cache else AUTO,
        name=name,
        strict=strict,
        min_sqnr_db=min_sqnr_db,
        tune=tune,
        tiles=tiles,
        progress=True,
    )
    directory = net.save(output, threads_pool=threads_pool)
    summary = summarize(net, directory, time.perf_counter() - began)
    if as_json:
        typer.echo(json.dumps(summary, allow_nan=False))
    else:
        typer.echo(report(net, summary, directory))


def summarize(net: CompiledNetwork, directory: Path, seconds: float) -> dict[str, Any]:
    """The object that `--json` prints."""
    from qcomp.accuracy.record import plain
    from qcomp.findings import record
    from qcomp.runtime.store import manifest_of

    _, manifest = manifest_of(directory)
    library = directory / (manifest["library"] or manifest["static_library"])
    return {
        "target": net.target,
        "isa": list(net.isa),
        "arena_bytes": net.arena_bytes,
        "weights_bytes": net.weights_bytes,
        "library_bytes": library.stat().st_size,
        "seconds": round(seconds, 3),
        "sqnr_db_output": net.sqnr_db_output,
        "accuracy": plain(net.accuracy),
        "findings": record.plain(net.findings),
        "input": _one_or_all(net.inputs),
        "output": _one_or_all(net.outputs),
    }


def _one_or_all(infos: Sequence[TensorInfo]) -> Any:
    records = [dataclasses.asdict(info) for info in infos]
    return records[0] if len(records) == 1 else records


def report(net: CompiledNetwork, summary: dict[str, Any], directory: Path) -> str:
    """The report for people."""
    from qcomp.findings.record import told
    from qcomp.runtime.store import manifest_of

    lines = [
        f"{net.name} for {net.target} ({', '.join(net.isa)}) in {directory}",
        f"  arena    {net.arena_bytes:>12,} bytes, {net.artifact.memory.live:,} live at once",
        f"  weights  {net.weights_bytes:>12,} bytes",
        f"  library  {summary['library_bytes']:>12,} bytes",
        *(_tensor_line("input", info) for info in net.inputs),
        *(_tensor_line("output", info) for info in net.outputs),
    ]
    if net.accuracy is not None:
        lines += [f"  sqnr     {part}" for part in net.accuracy.parts]
        lines.append(f"           against float, on {net.accuracy.samples} calibration samples")
    lines += [f"  note: {note}" for note in net.notes]
    if manifest_of(directory)[1]["library"] is None:
        lines.append(
            f"  note: no shared library: found no linker for {net.artifact.requires.triple}; "
            "qcomp[cross] has one"
        )
    lines += [f"  finding: {finding}" for finding in told(net.findings)]
    lines.append(f"  {summary['seconds']:.1f} s")
    return "\n".join(lines)


def _tensor_line(kind: str, info: TensorInfo) -> str:
    shape = "x".join(map(str, info.shape))
    return (
        f"  {kind:<8} {info.name}: {info.dtype} {shape}, "
        f"scale {info.scale:.8g}, zero point {info.zero_point}"
        f"{'' if info.conversion is None else ', after a conversion that the header has'}"
        f"{'' if info.tail is None else f', {info.tail.function.value} in floats behind it'}"
    )
