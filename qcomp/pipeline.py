"""The stages of a compilation, in order, with the passes of each.

    FLOAT -- normalize --> FLOAT -- equalize --> FLOAT -- quantize --> QDQ -- lower --> INTEGER

A model enters at the first stage that needs the form that it comes in. `qcomp.quantizer` goes
through them. Configurations have no field left "auto" here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from qcomp.calibration.statistics import Statistics, float_activations, mnemonics
from qcomp.config import ONNX, QuantizationConfig
from qcomp.errors import CalibrationError, CompileError, PassError, did_you_mean
from qcomp.ir.form import Form
from qcomp.ir.given import GivenIntegers, given_qparams
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Embedding
from qcomp.ir.tensor import TensorId
from qcomp.ir.transformer import is_transformer
from qcomp.passes.absorb_high_bias import AbsorbHighBias
from qcomp.passes.annotate_ranges import AnnotateRanges
from qcomp.passes.base import Pass
from qcomp.passes.canonicalize_layout import CanonicalizeLayout
from qcomp.passes.certify_accumulators import CertifyAccumulators
from qcomp.passes.correct_bias import CorrectBias, float_weights
from qcomp.passes.equalize_cross_layer import EqualizeCrossLayer
from qcomp.passes.fold_batch_norm import FoldBatchNorm
from qcomp.passes.fold_constants import FoldConstants
from qcomp.passes.fuse_activation import FuseActivation
from qcomp.passes.fuse_requantize import FuseRequantize
from qcomp.passes.insert_quantize import InsertQuantize
from qcomp.passes.lib.quantization_noise import MomentsOf, Precision
from qcomp.passes.lib.relative_rows import MomentsOfSome
from qcomp.passes.narrow_saturated_ranges import NarrowSaturatedRanges
from qcomp.passes.own import OwnPass
from qcomp.passes.recompose_activations import RecomposeActivations
from qcomp.passes.recompose_attention import RecomposeAttention
from qcomp.passes.recompose_normalization import RecomposeNormalization
from qcomp.passes.recompose_powers import RecomposePowers
from qcomp.passes.scale_dynamically import ScaleDynamically
from qcomp.passes.smooth_channels import SmoothChannels
from qcomp.passes.snap_scales import SnapScales
from qcomp.passes.split_max_pools import SplitMaxPools
from qcomp.passes.split_sliced_layers import SplitSlicedLayers
from qcomp.passes.take_given_integers import TakeGivenIntegers
from qcomp.reconstruction.correct_bias import CorrectBiasEmpirically
from qcomp.reconstruction.round_weights import RoundWeights
from qcomp.reconstruction.walk import FittingData

FITTED = ("adaround", "gptq", "seqmse")


@dataclass(frozen=True)
class Given:
    """What the passes of a stage are made from, besides the configuration.

    `graph` is what the stage begins with, and `statistics` are those of it. `moments` tells those
    of all f32 activations of any float graph, `moments_of` those of some. Without `fitting` no
    layer depends on how others were rounded: weights are rounded to nearest, and each bias is
    corrected by itself. Trials are quicker so, and parts of graphs of different bits can be put
    together. `integers` are those that the model has of constants, by their names. `rounds`:
    activations that have a scale of the model's own are rounded to it, one by one, as the tool that
    it comes from does. `whole_attention` says whether whoever takes the integers knows attention as
    one op.
    """

    graph: Graph
    moments: MomentsOf
    moments_of: MomentsOfSome
    statistics: Callable[[], Statistics]
    fitting: FittingData | None
    integers: Mapping[str, GivenIntegers] = field(default_factory=dict)
    rounds: bool = False
    whole_attention: bool = True


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Passes from one form to another.

    order: the names of all that any configuration runs, as places for passes of the caller.
    reads: the fields of the configuration that they follow.
    fits: whether they fit layers to data.
    """

    name: str
    needs: Form
    gives: Form
    order: tuple[str, ...]
    reads: tuple[str, ...]
    fits: bool
    passes: Callable[[QuantizationConfig, Given], list[Pass]]


def expect_places(stages: Sequence[Stage], own: Sequence[OwnPass]) -> None:
    """PassError for passes of the caller whose place is in none of the stages.

    Behind the last pass, which certifies the sums, nothing may change.
    """
    names = [name for stage in stages for name in stage.order]
    names = [name for name in names if name != CertifyAccumulators.name]
    for p in own:
        if p.after not in names:
            raise PassError(
                f"pass {p.name} is to come after {p.after!r}; expected one of "
                f"{', '.join(names) or 'none, as the model comes in integers'}"
                f"{did_you_mean(p.after, names)}"
            )


def stages_from(form: Form) -> tuple[Stage, ...]:
    """Those that a graph of this form has still to go through."""
    for i, stage in enumerate(STAGES):
        if stage.needs is form:
            return STAGES[i:]
    if form is STAGES[-1].gives:
        return ()
    accepted = ", ".join(dict.fromkeys(f.value for s in STAGES for f in (s.needs, s.gives)))
    raise CompileError(f"a model can't enter in form {form.value}; expected {accepted}")


def fits_weights(config: QuantizationConfig) -> bool:
    """Whether some layer's weights are rounded by what its results should be, which takes data."""
    choices = [{"rounding": config.rounding, "weight_range": config.weight_range}]
    return any(
        fields.get("rounding") in FITTED or fields.get("weight_range") in FITTED
        for fields in (*choices, *config.overrides.values())
    )


def _normalizing(config: QuantizationConfig, given: Given) -> list[Pass]:
    """What the later passes want to see, whatever the choices of the configuration."""
    stored = given.integers if given.rounds else ()
    return [
        FoldConstants(stored),
        *([RecomposeAttention()] if given.whole_attention else []),
        RecomposeNormalization(rounds=given.rounds),
        CanonicalizeLayout(),
        RecomposePowers(),
        RecomposeActivations(rounds=given.rounds),
        FoldBatchNorm(stored),
        FuseActivation(rounds=given.rounds),
        SplitSlicedLayers(given.moments),
    ]


def _equalizing(config: QuantizationConfig, given: Given) -> list[Pass]:
    """The same function with numbers that round better."""
    passes: list[Pass] = []
    precision = Precision(
        per_channel=config.per_channel,
        weight_levels=max(2 ** (config.weight_bits - 1) - 1, 1),
        value_levels=2**config.decided_activation_bits - 1,
    )
    if config.decided_activation_bits == 8 and is_transformer(given.graph):
        passes.append(SmoothChannels(given.moments_of if config.smooth else None, precision))
    if config.equalize:
        passes.append(
            EqualizeCrossLayer(given.moments, precision, opens_gates=config.equalize == "gates")
        )
    if config.absorb_bias:
        passes.append(AbsorbHighBias(given.moments))
    if config.is_dynamic:
        passes.append(ScaleDynamically(config))
    return passes


def ranging(config: QuantizationConfig, given: Given) -> list[Pass]:
    """The range of every activation, with which the stage `quantize` begins.

    Of those that the model has parameters for, theirs, and intervals that are chosen; if these are
    all, no statistics are taken. Of looked-up rows that of the table. Those that activations are
    rounded to stay as wide as they are.
    """
    narrow = [] if given.rounds else [NarrowSaturatedRanges(config)]
    decided = decided_ranges(given.graph, config)
    known = decided | known_ranges(given.graph)
    if known.keys() >= set(float_activations(given.graph)):
        return [AnnotateRanges(known), *narrow]
    try:
        statistics = given.statistics()
        ranges = statistics.ranges(config) | table_ranges(given.graph) | known
    except CalibrationError as error:
        if not known:
            raise
        lacking = ", ".join(f"%{t}" for t in float_activations(given.graph) if t not in known)
        what = "no interval is given" if decided else "the model has no scales"
        raise CalibrationError(f"{what} for {lacking}; {error}") from error
    return [AnnotateRanges(ranges, statistics.reaches), *narrow]


def decided_ranges(graph: Graph, config: QuantizationConfig) -> dict[TensorId, tuple[float, float]]:
    """Intervals that overrides choose."""
    chosen = {t: config.at(t, mnemonic).range for t, mnemonic in mnemonics(graph).items()}
    return {t: interval for t, interval in chosen.items() if isinstance(interval, tuple)}


def table_ranges(graph: Graph) -> dict[TensorId, tuple[float, float]]:
    """Of rows that are looked up: of all, since data shows but a few of many words."""
    tables = {op.output: graph.data(op.table) for op in graph.ops() if isinstance(op, Embedding)}
    return {id: (float(t.min()), float(t.max())) for id, t in tables.items()}


def known_ranges(graph: Graph) -> dict[TensorId, tuple[float, float]]:
    """By the model's own parameters, also of what the same integers are copied from or to: of an
    operand, where all its copies agree, and of a copy of operands that agree. What is joined with
    others that have none is calibrated.
    """
    known = {id: q.range for id, q in given_qparams(graph).items()}
    if not known:
        return known
    copies = [
        (op.output, [t for t in op.one_scale if t != op.output and not graph.is_constant(t)])
        for op in graph.ops()
        if op.output in op.one_scale and not graph.is_kept(op)
    ]
    wanted: dict[TensorId, set[tuple[float, float]]] = {}
    for output, operands in reversed(copies):
        known |= _agreed(output, wanted, known)
        for t in operands if output in known else ():
            wanted.setdefault(t, set()).add(known[output])
    for t in [t for t in wanted if t not in known]:
        known |= _agreed(t, wanted, known)
    for output, operands in copies:
        if operands and all(t in known for t in operands):
            known |= _agreed(output, {output: {known[t] for t in operands}}, known)
    return known


def _agreed(
    id: TensorId,
    wanted: Mapping[TensorId, Collection[tuple[float, float]]],
    known: Mapping[TensorId, tuple[float, float]],
) -> dict[TensorId, tuple[float, float]]:
    """What is wanted of a tensor of which nothing is known, where that is one range."""
    found = wanted.get(id, ())
    return {} if id in known or len(found) != 1 else {id: next(iter(found))}


def _quantizing(config: QuantizationConfig, given: Given) -> list[Pass]:
    data = given.fitting
    passes: list[Pass] = [*ranging(config, given), InsertQuantize(config)]
    if config.arithmetic == ONNX:
        passes.append(TakeGivenIntegers(given.integers))
    elif config.snap_scales:
        passes.append(SnapScales())
    if data is not None and fits_weights(config):
        passes.append(RoundWeights(config, data))
    if data is not None and config.bias_correction == "empirical":
        passes.append(CorrectBiasEmpirically(data))
    elif config.bias_correction is not None:
        means = given.statistics().channel_means
        passes.append(CorrectBias(means, float_weights(given.graph)))
    return passes


def _lowering(config: QuantizationConfig, given: Given) -> list[Pass]:
    return [FuseRequantize(config.arithmetic), SplitMaxPools(), CertifyAccumulators()]


_EQUALIZING = (
    "smooth",
    "equalize",
    "absorb_bias",
    "per_channel",
    "weight_bits",
    "activation_bits",
    "activations",
    "own_activations",
)
_NOT_QUANTIZING = (
    "recipe",  # how to choose, not what
    "max_slowdown",
    "inputs",  # before the stages
    "float_tail",
    "outputs",
    "states",
    "passes",  # the same for all of a route
)
_QUANTIZING = tuple(
    f.name for f in dataclasses.fields(QuantizationConfig) if f.name not in _NOT_QUANTIZING
)

RANGING = (AnnotateRanges.name, NarrowSaturatedRanges.name)

NORMALIZE = Stage(
    name="normalize",
    needs=Form.FLOAT,
    gives=Form.FLOAT,
    order=(
        FoldConstants.name,
        RecomposeAttention.name,
        RecomposeNormalization.name,
        CanonicalizeLayout.name,
        RecomposePowers.name,
        RecomposeActivations.name,
        FoldBatchNorm.name,
        FuseActivation.name,
        SplitSlicedLayers.name,
    ),
    reads=(),
    fits=False,
    passes=_normalizing,
)
EQUALIZE = Stage(
    name="equalize",
    needs=Form.FLOAT,
    gives=Form.FLOAT,
    order=(
        SmoothChannels.name,
        EqualizeCrossLayer.name,
        AbsorbHighBias.name,
        ScaleDynamically.name,
    ),
    reads=_EQUALIZING,
    fits=False,
    passes=_equalizing,
)
QUANTIZE = Stage(
    name="quantize",
    needs=Form.FLOAT,
    gives=Form.QDQ,
    order=(
        *RANGING,
        InsertQuantize.name,
        TakeGivenIntegers.name,
        SnapScales.name,
        RoundWeights.name,
        CorrectBiasEmpirically.name,
        CorrectBias.name,
    ),
    reads=_QUANTIZING,
    fits=True,
    passes=_quantizing,
)
LOWER = Stage(
    name="lower",
    needs=Form.QDQ,
    gives=Form.INTEGER,
    order=(FuseRequantize.name, SplitMaxPools.name, CertifyAccumulators.name),
    reads=("arithmetic",),
    fits=False,
    passes=_lowering,
)
STAGES = (NORMALIZE, EQUALIZE, QUANTIZE, LOWER)
