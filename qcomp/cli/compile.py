"""`qcomp compile`: a model becomes a directory with its library, header and test vectors."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

import qcomp
from qcomp.cli.options import (
    TARGET_NAMES,
    BoundValues,
    Cache,
    Calibration,
    Json,
    Lengths,
    Model,
    Samples,
    limited,
    one_of,
    parse_inputs,
    parse_lengths,
    parse_states,
    parse_values,
    path_of_text,
)
from qcomp.cli.pictures import takes_pictures
from qcomp.cli.session import Session
from qcomp.cli.summary import report, summarize
from qcomp.config import (
    ACTIVATION_BITS,
    ACTIVATIONS,
    ARITHMETICS,
    AUTO,
    RANGES,
    RECIPES,
    ROUNDINGS,
    WEIGHT_BITS,
    QuantizationConfig,
)
from qcomp.input_forms import ARGMAX, TYPES
from qcomp.preprocessing import Preprocessing

DEFAULTS = QuantizationConfig()


@takes_pictures
def compile(
    context: typer.Context,
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
    calibration: Calibration = None,
    samples: Samples = None,
    bind: Lengths = None,
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
    activations: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help=f"{one_of(ACTIVATIONS)}: scales of what layers read, found in each run for each "
            "row or image.",
        ),
    ] = DEFAULTS.activations,
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
    passes: Annotated[
        list[str] | None,
        typer.Option(
            "--pass", metavar="NAME[@AFTER]", help="A pass of another package; repeatable."
        ),
    ] = None,
    range: Annotated[
        str,
        typer.Option(
            "--range",
            help=f"How activation ranges are estimated: auto, {', '.join(RANGES)}, or an estimator "
            "of another package.",
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
    input_type: Annotated[
        list[str] | None,
        typer.Option(
            "--input-type",
            metavar="[NAME=]T",
            help=f"What the caller has inputs as: {one_of(TYPES)}.",
        ),
    ] = None,
    input_mean: Annotated[
        list[str] | None,
        typer.Option(
            "--input-mean",
            metavar="[NAME=]X,X",
            help="The model gets (input - mean) / std; one number, or one for each channel.",
        ),
    ] = None,
    input_std: Annotated[
        list[str] | None, typer.Option("--input-std", metavar="[NAME=]X,X", help="See above.")
    ] = None,
    input_layout: Annotated[
        list[str] | None,
        typer.Option(
            "--input-layout",
            metavar="[NAME=]NHWC",
            help="The caller has channels last, the model NCHW.",
        ),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            metavar="IN:OUT",
            help="Input IN is what output OUT was in the run before; may be repeated. auto: those "
            "that look like it.",
        ),
    ] = None,
    argmax: Annotated[
        list[str] | None,
        typer.Option("--argmax", metavar="NAME", help="This output is the index of the largest."),
    ] = None,
    float_tail: Annotated[
        bool,
        typer.Option(
            "--float-tail",
            help="Leave the sigmoid or softmax by which an output ends to the header's floats.",
        ),
    ] = False,
    arithmetic: Annotated[
        str,
        typer.Option(
            help=f"{one_of(ARITHMETICS)}: the bits of TensorFlow Lite's reference kernels or of "
            "TensorFlow Lite Micro, of TFLite files of integers, or of ONNX Runtime's quantized "
            "kernels, of quantized ONNX models."
        ),
    ] = DEFAULTS.arithmetic,
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
    languages: Annotated[
        list[str] | None,
        typer.Option("--bindings", metavar="LANGUAGE", help="Also write a crate of Rust: rust."),
    ] = None,
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
    advise: Annotated[
        bool,
        typer.Option("--advise", help="Say what to try next, with what it gains: measured."),
    ] = False,
    taps: Annotated[
        bool,
        typer.Option(
            "--taps", help="The library tells of each tensor while it runs, for `qcomp compare`."
        ),
    ] = False,
    as_json: Json = False,
    preprocessing: Preprocessing | None = None,
) -> None:
    """Compile a float network to an integer-only C library."""
    from qcomp.names import c_name, default_name
    from qcomp.own_passes import with_own_passes
    from qcomp.runtime.builds import expect_bindings
    from qcomp.runtime.store import expect_no_other

    bindings, values = parse_lengths(bind), parse_values(bind_value)
    expect_bindings(languages or ())
    expect_no_other(output, c_name(default_name(model) if name is None else name))
    config = QuantizationConfig(
        recipe=recipe,
        weight_bits=weight_bits,
        activations=activations,
        activation_bits=AUTO if activation_bits is None else activation_bits,
        max_slowdown=max_slowdown,
        per_channel=not per_tensor,
        range=range,
        rounding=rounding,
        input_range=input_range,
        inputs=parse_inputs(
            {"type": input_type, "mean": input_mean, "std": input_std, "layout": input_layout}
        ),
        outputs=dict.fromkeys(argmax or [], ARGMAX),
        states=parse_states(state),
        float_tail=float_tail,
        preprocessing=preprocessing,
        arithmetic=arithmetic,
    )
    for named in passes or ():
        pass_name, _, place = named.partition("@")
        config, _ = with_own_passes(config, [pass_name], place or None)
    began = time.perf_counter()
    net = qcomp.compile(
        model,
        target if device_ops is None else limited(target, device_ops),
        calibration=calibration,
        samples=samples,
        config=config,
        bind=bindings,
        bind_values=values,
        dump=dump,
        cache=cache,
        object_cache=None if no_object_cache else AUTO,
        name=name,
        strict=strict,
        min_sqnr_db=min_sqnr_db,
        progress=Session.of(context).progress,
        tune=tune,
        tiles=tiles,
        advise=advise,
        taps=taps,
    )
    directory = net.save(output, threads_pool=threads_pool, bindings=languages or ())
    summary = summarize(net, directory, time.perf_counter() - began)
    if as_json:
        typer.echo(json.dumps(summary, allow_nan=False))
    elif not Session.of(context).quiet:
        typer.echo(report(net, summary, directory))
