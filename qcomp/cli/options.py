"""Arguments and options that several commands share, and how their texts are read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from qcomp.config import AUTO
from qcomp.input_forms import EVERY

# Those of qcomp.targets.catalog, which is not imported for help; tests/test_claims.py compares.
TARGET_NAMES = (
    "native, x86-64, sse4.1, avx2, avx-vnni, avx512-vnni, avx512-vbmi, amx-int8, arm64, aarch64, "
    "aarch64-dotprod, aarch64-i8mm, arm64-android, arm64-ios, arm64-macos, arm64-windows, armv7, "
    "riscv64, wasm32, x86-64-macos, x86-64-windows, tvm-llvm, tvm-c, opencl, "
    "opencl:dot4, opencl:cpu, cuda, cuda:sm_80 or "
    "cuda:sm_90"
)

Bindings = Annotated[
    list[str] | None,
    typer.Option(
        "--bind", metavar="N=1", help="Give a dynamic dimension its size; may be repeated."
    ),
]
Lengths = Annotated[
    list[str] | None,
    typer.Option(
        "--bind",
        metavar="N=1",
        help="Give a dynamic dimension its size, or one of them several, S=16,64,128, and the "
        "library a plan for each; may be repeated.",
    ),
]
BoundValues = Annotated[
    list[str] | None,
    typer.Option(
        "--bind-value", metavar="NAME=1.5", help="Make an input this constant; may be repeated."
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Keep results here; what was interrupted goes on."),
]
Calibration = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE_OR_DIR",
        help="A .npy or .npz file, a directory of them, or a folder of pictures or sounds.",
    ),
]
Samples = Annotated[
    int | None,
    typer.Option(
        "--samples",
        min=1,
        metavar="N",
        help="At most, of --calibration; of a folder of pictures 128 unless given.",
    ),
]
CompiledFrom = Annotated[
    Path | None,
    typer.Option(metavar="MODEL", help="The float model it was compiled from: its weights."),
]
CompiledWith = Annotated[
    Path | None,
    typer.Option(metavar="FILE_OR_DIR", help="What it was calibrated with, for --model."),
]
CompiledSamples = Annotated[
    int | None, typer.Option("--samples", min=1, metavar="N", help="The --samples of compile.")
]
MeasuredOn = Annotated[
    Path | None,
    typer.Option(metavar="FILE_OR_DIR", help="To measure on; else that of --calibration."),
]
Measured = Annotated[
    int, typer.Option("--count", min=1, metavar="N", help="Samples to measure on, at most.")
]
Classes = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The name of each class, in the order of the outputs."),
]
LabelOffset = Annotated[
    int, typer.Option("--label-offset", metavar="N", help="The output of class 0.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX file.")]
ModelOrDirectory = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL_OR_DIR", help="An ONNX or TFLite file, or what `qcomp compile` wrote."
    ),
]
Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="A directory that `qcomp compile` wrote.")
]


def one_of(choices: Iterable[object]) -> str:
    """`8, 4 or 2`, for a help text."""
    *others, last = map(str, choices)
    return f"{', '.join(others)} or {last}"


def parse_bindings(texts: list[str] | None) -> dict[str, int]:
    """`["N=1"]` as `{"N": 1}`; a usage error for anything else."""
    bindings: dict[str, int] = {}
    for text in texts or []:
        name, equals, size = text.rpartition("=")
        if not (name and equals and size.isascii() and size.isdigit() and int(size) > 0):
            raise typer.BadParameter(
                f"{text!r}: expected NAME=SIZE with a positive size, as in N=1",
                param_hint="--bind",
            )
        if bindings.setdefault(name, int(size)) != int(size):
            raise typer.BadParameter(f"{name} has two sizes", param_hint="--bind")
    return bindings


def parse_lengths(texts: list[str] | None) -> dict[str, int | tuple[int, ...]]:
    """`["N=1", "S=16,64"]` as `{"N": 1, "S": (16, 64)}`; a usage error for anything else."""
    found: dict[str, int | tuple[int, ...]] = {}
    for text in texts or []:
        name, _, sizes = text.rpartition("=")
        given = tuple(parse_bindings([f"{name}={size}"])[name] for size in sizes.split(","))
        size = given if len(given) > 1 else given[0]
        if len(set(given)) < len(given):
            raise typer.BadParameter(f"{text!r} has a size twice", param_hint="--bind")
        if found.setdefault(name, size) != size:
            raise typer.BadParameter(f"{name} has two sizes", param_hint="--bind")
    return found


def parse_values(texts: list[str] | None) -> dict[str, float]:
    """`["fmin=46.9"]` as `{"fmin": 46.9}`; a usage error for anything else."""
    values: dict[str, float] = {}
    for text in texts or []:
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not name or not math.isfinite(value):
            raise typer.BadParameter(
                f"{text!r}: expected NAME=NUMBER, as in fmin=46.9", param_hint="--bind-value"
            )
        if values.setdefault(name, value) != value:
            raise typer.BadParameter(f"{name} has two values", param_hint="--bind-value")
    return values


def parse_states(texts: list[str] | None) -> dict[str, str] | str:
    """`["h_in:h_out"]` as `{"h_in": "h_out"}`, `["auto"]` as "auto"; a usage error for else."""
    if texts == [AUTO]:
        return AUTO
    states: dict[str, str] = {}
    for text in texts or []:
        name, colon, output = text.partition(":")
        if not (name and colon and output) or states.setdefault(name, output) != output:
            raise typer.BadParameter(
                f"{text!r}: expected INPUT:OUTPUT, each input once, as in h_in:h_out, or auto",
                param_hint="--state",
            )
    return states


def parse_inputs(options: Mapping[str, list[str] | None]) -> dict[str, dict[str, Any]]:
    """`{"type": ["x=uint8"], "mean": ["1,2"]}` as fields by input; "*" where none is named."""
    inputs: dict[str, dict[str, Any]] = {}
    for field, texts in options.items():
        for text in texts or []:
            name, _, value = text.rpartition("=")
            fields = inputs.setdefault(name or EVERY, {})
            if fields.setdefault(field, given := _value(field, value)) != given:
                raise typer.BadParameter(
                    f"{name or 'every input'} has two", param_hint=f"--input-{field}"
                )
    shared = inputs.get(EVERY, {})
    return {name: {**shared, **fields} for name, fields in inputs.items()}


def _value(field: str, text: str) -> Any:
    if field not in ("mean", "std"):
        return text
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}: expected numbers with commas between, as in 123.7,116.3,103.5",
            param_hint=f"--input-{field}",
        ) from None


def limited(target: str, ops: str) -> str:
    """`A+B` as `A[ops]+B`."""
    device, plus, rest = target.partition("+")
    if not plus or not rest or "[" in device:
        raise typer.BadParameter(
            f"{target!r} is no target A+B of which the first can be limited",
            param_hint="--device-ops",
        )
    return f"{device}[{ops}]+{rest}"


def path_of_text(text: str) -> Path:
    """A path to write to; an empty text, as of a shell variable that is not set, is none."""
    if not text:
        raise typer.BadParameter("an empty path")
    return Path(text)
