"""From a configuration with fields that are "auto" to one without, by the recipe's way."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qcomp.calibration.evidence import Evidence
from qcomp.calibration.sequences import data_of
from qcomp.calibration.statistics import float_outputs
from qcomp.config import AUTO, DYNAMIC, ONNX, TFLITE, TFLM, QuantizationConfig
from qcomp.errors import RecipeError
from qcomp.ir.form import Form
from qcomp.ir.given import is_quantized_already
from qcomp.ir.graph import Graph
from qcomp.ir.ops import ScaleDown, ScaleUp
from qcomp.ir.transformer import is_transformer
from qcomp.passes.events import PassLog
from qcomp.progress import bar
from qcomp.quant.qparams import SUM_BITS
from qcomp.quantizer import Quantizer
from qcomp.recipes.decisions import with_16_bits, with_fields, with_fine_decisions
from qcomp.recipes.divide import divided, for_all, too_few
from qcomp.recipes.estimated_time import CostOf
from qcomp.recipes.judge import Feed, Judge
from qcomp.recipes.named import DATA_FREE, as_given, settled
from qcomp.recipes.overrides import check_overrides, spread_ranges
from qcomp.recipes.search import TRIALS, search
from qcomp.recipes.streams import wide_streams

SEARCHING = ("auto", "best")
_WEIGHTS = ("rounding", "weight_bits")
_OWN = {"range": "a range of its own", "activation_bits": "16 bits"}


@dataclass(frozen=True)
class Chosen:
    """A configuration with no field left "auto", and what there is to tell of it."""

    config: QuantizationConfig
    notes: tuple[str, ...] = ()


def evidence_for(
    graph: Graph,
    calibration: Any,
    config: QuantizationConfig,
    *,
    samples: int | None = None,
    progress: bool,
) -> Evidence:
    """The calibration data of a graph, unless there is none or the recipe does without."""
    with_data = calibration is not None and config.recipe != DATA_FREE
    options = {"preprocessing": config.preprocessing, "samples": samples, "progress": progress}
    data = data_of(graph, calibration, **options) if with_data else None
    return Evidence(data, config.input_range, progress)


def decide(
    quantizer: Quantizer,
    config: QuantizationConfig,
    cost: CostOf,
    *,
    progress: bool = False,
    sums: bool = False,
) -> Chosen:
    """Every field decided, by trials on some of the data where the recipe makes any.

    `cost` is that of the target that the network is for, and `sums` says whether it knows sums of
    32 bits. How it came about is a record of the quantizer. RecipeError for overrides that match
    nothing, and for an arithmetic that is not that of the model.
    """
    _check_arithmetic(quantizer, config)
    _check_activations(quantizer, config)
    if config.overrides and quantizer.form is not Form.FLOAT:
        raise RecipeError(
            f"overrides: the model comes in form {quantizer.form.value}, where nothing is left to "
            "choose; give a float model"
        )
    began, log = time.perf_counter(), PassLog()
    data = quantizer.evidence.data
    if quantizer.form is Form.FLOAT:
        _check_overrides(quantizer, config)
        config = spread_ranges(quantizer.normalized, config)
        config = _with_fine_decisions(quantizer, config, log, sums=sums)
        config = _with_wide_streams(quantizer, config, log)
        config = _with_all_of_what_is_scaled(quantizer, config)
        chosen = _chosen(quantizer, config, cost, log, progress=progress)
    else:
        log.declined("trials", f"the model comes in form {quantizer.form.value}")
        chosen = Chosen(settled(config, calibrated=data is not None))
    quantizer.record("recipe", log, time.perf_counter() - began)
    return chosen


def _with_fine_decisions(
    quantizer: Quantizer, config: QuantizationConfig, log: PassLog, *, sums: bool
) -> QuantizationConfig:
    found = with_fine_decisions(quantizer.normalized, config, sums=sums)
    made = sum(
        fields.get("activation_bits") == SUM_BITS and fields != config.overrides.get(id)
        for id, fields in found.overrides.items()
    )
    if made:
        log.note(
            f"{SUM_BITS} bits for {made} sums of squares that steep functions read; "
            "activation_bits=8 leaves them in 8",
            tensors=made,
        )
    return found


def _with_wide_streams(
    quantizer: Quantizer, config: QuantizationConfig, log: PassLog
) -> QuantizationConfig:
    """The configuration with 16 bits for residual streams and the like, where it has none."""
    if config.activation_bits != AUTO or not is_transformer(quantizer.normalized):
        return config
    start = _first_answers(quantizer, config, calibrated=quantizer.evidence.data is not None)
    ids = wide_streams(quantizer.equalized(start))
    log.note(
        f"16 bits for {len(ids)} activations of a transformer: its residual stream, what is summed "
        "up to it, and pre-activations; activation_bits=8 leaves them in 8",
        tensors=len(ids),
    )
    return with_16_bits(config, ids, {"range": "minmax"})


def _with_all_of_what_is_scaled(
    quantizer: Quantizer, config: QuantizationConfig
) -> QuantizationConfig:
    """The configuration with ranges of all values for what a scale is found of in each run, and 16
    bits for what is scaled up, where it has none: 8 in static steps would lose what was won.
    """
    if not config.is_dynamic:
        return config
    graph = quantizer.equalized(settled(config, calibrated=quantizer.evidence.data is not None))
    scaled = [t for op in graph.ops() if isinstance(op, ScaleDown) for t in (*op.inputs, op.output)]
    products = [op.x for op in graph.ops() if isinstance(op, ScaleUp)]
    results = [op.id for op in graph.ops() if isinstance(op, ScaleUp)]
    if config.activation_bits == AUTO:
        config = with_16_bits(config, (id for id in results if not graph.is_output(id)))
    if quantizer.evidence.data is None or config.recipe == DATA_FREE:
        return config
    return with_fields(config, (*scaled, *products), {"range": "minmax"})


def _check_activations(quantizer: Quantizer, config: QuantizationConfig) -> None:
    """32 bits are of single sums; scales can be found in each run where the model has none of its
    own.
    """
    if config.activation_bits == SUM_BITS:
        raise RecipeError(
            f"activation_bits={SUM_BITS}: only sums that steep functions read can have so many; "
            "expected 8, 16 or 'auto', and 32 in the override of such a sum"
        )
    if not config.is_dynamic:
        return
    if config.activation_bits == 16:
        raise RecipeError(
            f"activations={DYNAMIC!r}, activation_bits=16: layers read 8 bits by a scale that is "
            "found in each run; expected activation_bits 'auto' or 8"
        )
    if quantizer.form is not Form.FLOAT or is_quantized_already(quantizer.normalized):
        raise RecipeError(
            f"activations={DYNAMIC!r}: the model's activations have scales of its own; expected a "
            "float model, or one whose weights alone are integers"
        )


def _check_arithmetic(quantizer: Quantizer, config: QuantizationConfig) -> None:
    """An arithmetic that is another tool's is that of models which come from it in integers."""
    if config.arithmetic in (TFLITE, TFLM) and quantizer.form is not Form.QDQ:
        raise RecipeError(
            f"arithmetic={config.arithmetic!r}: the model comes in form {quantizer.form.value}; "
            "expected a TFLite file whose activations are integers"
        )
    if config.arithmetic == ONNX and not (
        quantizer.form is Form.FLOAT and is_quantized_already(quantizer.normalized)
    ):
        raise RecipeError(
            f"arithmetic={ONNX!r}: the model has no scales of its own; expected an ONNX model of "
            "QuantizeLinear and DequantizeLinear, or of QLinear operators"
        )


def _check_overrides(quantizer: Quantizer, config: QuantizationConfig) -> None:
    """Overrides may be for the network as imported, or for what equalization makes of it."""
    if config.overrides:
        equalized = quantizer.equalized(settled(config, calibrated=True))
        check_overrides((quantizer.normalized, equalized), config)


def _chosen(
    quantizer: Quantizer,
    config: QuantizationConfig,
    cost: CostOf,
    log: PassLog,
    *,
    progress: bool,
) -> Chosen:
    """What the recipe says, or what trials find."""
    data = quantizer.evidence.data
    if quantizer.form is Form.FLOAT and is_quantized_already(quantizer.normalized):
        log.declined("trials", "the model is quantized already")
        return Chosen(settled(as_given(config), calibrated=data is not None))
    start = _first_answers(quantizer, config, calibrated=data is not None)
    if data is None:
        log.declined("trials", "no calibration data")
        missed = ("recipe best: nothing is tried or learned: no calibration data",)
        return Chosen(start, missed if config.recipe == "best" else ())
    if reason := _nothing_to_try(quantizer, config):
        log.declined("trials", reason)
        return Chosen(start)
    if reason := too_few(data):
        log.declined("trials", reason)
        return Chosen(start, (f"recipe {config.recipe}: nothing is tried: {reason}",))
    samples = divided(data)
    trials = quantizer.on(Evidence(samples.ranges, quantizer.evidence.input_range))
    judge = Judge(trials, samples.fitting)
    chosen = choose(judge, config, samples.judged, cost, log, progress=progress)
    known = [q.statistics(chosen.config) for q in (trials, quantizer)]
    return dataclasses.replace(chosen, config=for_all(chosen.config, config, *known))


def _first_answers(
    quantizer: Quantizer, config: QuantizationConfig, *, calibrated: bool
) -> QuantizationConfig:
    """With no field left "auto". A transformer is equalized, also with scales per channel. Few rows
    of it are far larger than the others, and would decide how biases are corrected on data.
    """
    start = settled(config, calibrated=calibrated)
    if not calibrated or config.recipe == DATA_FREE or not is_transformer(quantizer.normalized):
        return start
    apart: dict[str, Any] = {"equalize": True, "bias_correction": "analytic"}
    left = {name: answer for name, answer in apart.items() if getattr(config, name) == AUTO}
    return dataclasses.replace(start, **left)


def choose(
    judge: Judge,
    config: QuantizationConfig,
    samples: Sequence[Feed],
    cost: CostOf,
    log: PassLog,
    *,
    progress: bool = False,
) -> Chosen:
    """Every field decided by trials, judged on samples; `log` says how."""
    start = _first_answers(judge.quantizer, config, calibrated=True)
    quick = _with_plain_weights(start)
    if start.weight_range == "seqmse":
        config = dataclasses.replace(config, weight_range="seqmse")
    if start.rounding != quick.rounding:
        config = dataclasses.replace(config, rounding=start.rounding)
    judge = judge.weighing(quick, samples)
    with bar("trying ranges", shown=progress, counted=False) as trials:
        choice = search(judge, config, quick, samples, cost, trials)
    log.events += choice.log.events
    told = f"recipe {config.recipe}: outputs {choice.gain}, by {_difference(quick, choice.config)}"
    log.note(told)
    return Chosen(_with_weights_of(start, choice.config), (told,))


def _with_plain_weights(config: QuantizationConfig) -> QuantizationConfig:
    """Rounded to nearest, 8 bits: how fewer bits are rounded is learned afterwards.

    Rounded to nearest they would drown what trials of ranges are to tell.
    """
    overrides = {
        key: {name: value for name, value in fields.items() if name not in _WEIGHTS}
        for key, fields in config.overrides.items()
    }
    return dataclasses.replace(config, rounding="nearest", weight_bits=8, overrides=overrides)


def _with_weights_of(start: QuantizationConfig, found: QuantizationConfig) -> QuantizationConfig:
    """What was found, with weights as they were to be."""
    overrides = {
        key: {**found.overrides.get(key, {}), **start.overrides.get(key, {})}
        for key in (*found.overrides, *start.overrides)
    }
    rounding = found.rounding if start.rounding == "nearest" else start.rounding
    return dataclasses.replace(
        found, rounding=rounding, weight_bits=start.weight_bits, overrides=overrides
    )


def _difference(start: QuantizationConfig, found: QuantizationConfig) -> str:
    told = [
        f"{name}={getattr(found, name)}"
        for name in (*TRIALS, "rounding")
        if getattr(found, name) != getattr(start, name)
    ]
    for name, what in _OWN.items():
        own = sum(
            name in fields and name not in start.overrides.get(key, {})
            for key, fields in found.overrides.items()
        )
        if own:
            told.append(f"{what} for {own} activations")
    return ", ".join(told) or "no change"


def _nothing_to_try(quantizer: Quantizer, config: QuantizationConfig) -> str | None:
    """The reason that nothing is tried whatever the data, or None."""
    if config.recipe not in SEARCHING:
        return f"recipe {config.recipe}"
    left = {name for name in (*TRIALS, "activation_bits") if getattr(config, name) == AUTO}
    if not (left if is_transformer(quantizer.normalized) else left - {"smooth"}):
        return "all is chosen"
    if not float_outputs(quantizer.normalized):
        return "no output is a float, so none can be compared"
    return None
