"""The passes of a compilation, in order, for a configuration with no field left "auto"."""

from __future__ import annotations

from qcomp.calibration.statistics import Statistics
from qcomp.config import QuantizationConfig
from qcomp.ir.graph import Graph
from qcomp.passes.absorb_high_bias import AbsorbHighBias
from qcomp.passes.annotate_ranges import AnnotateRanges
from qcomp.passes.base import Pass
from qcomp.passes.canonicalize_layout import CanonicalizeLayout
from qcomp.passes.certify_accumulators import CertifyAccumulators
from qcomp.passes.correct_bias import CorrectBias, float_weights
from qcomp.passes.equalize_cross_layer import EqualizeCrossLayer, LeastNoise, Relu6
from qcomp.passes.fold_batch_norm import FoldBatchNorm
from qcomp.passes.fold_constants import FoldConstants
from qcomp.passes.fuse_activation import FuseActivation
from qcomp.passes.fuse_requantize import FuseRequantize
from qcomp.passes.insert_quantize import InsertQuantize
from qcomp.passes.narrow_saturated_ranges import NarrowSaturatedRanges
from qcomp.passes.quantization_noise import MomentsOf, Precision
from qcomp.passes.recompose_activations import RecomposeActivations
from qcomp.passes.snap_scales import SnapScales
from qcomp.reconstruction.correct_bias import CorrectBiasEmpirically
from qcomp.reconstruction.round_weights import RoundWeights
from qcomp.reconstruction.walk import FittingData

FITTED = ("adaround", "gptq", "seqmse")


def normalizing_passes() -> list[Pass]:
    """FLOAT to FLOAT, whatever the choices: what the later passes want to see."""
    return [
        FoldConstants(),
        CanonicalizeLayout(),
        RecomposeActivations(),
        FoldBatchNorm(),
        FuseActivation(),
    ]


def equalizing_passes(config: QuantizationConfig, moments: MomentsOf) -> list[Pass]:
    """FLOAT to FLOAT: the same function with numbers that round better.

    `moments` tells those of all f32 activations of a float graph.
    """
    passes: list[Pass] = []
    if config.equalize:
        precision = Precision(
            per_channel=config.per_channel,
            weight_levels=max(2 ** (config.weight_bits - 1) - 1, 1),
            value_levels=2**config.activation_bits - 1,
        )
        passes.append(EqualizeCrossLayer(Relu6.MINIMUM, LeastNoise(moments, precision)))
    if config.absorb_bias:
        passes.append(AbsorbHighBias(moments))
    return passes


def qdq_passes(
    config: QuantizationConfig,
    statistics: Statistics,
    graph: Graph,
    data: FittingData | None = None,
) -> list[Pass]:
    """FLOAT to QDQ, of this graph.

    Without `data` no layer depends on how others were rounded: weights are rounded to nearest, and
    each bias is corrected by itself. Trials are quicker so, and parts of graphs of different bits
    can be put together.
    """
    passes: list[Pass] = [
        AnnotateRanges(statistics.ranges(config)),
        NarrowSaturatedRanges(config),
        InsertQuantize(config),
    ]
    if config.snap_scales:
        passes.append(SnapScales())
    if data is not None and fits_weights(config):
        passes.append(RoundWeights(config, data))
    if data is not None and config.bias_correction == "empirical":
        passes.append(CorrectBiasEmpirically(data))
    elif config.bias_correction is not None:
        passes.append(CorrectBias(statistics.channel_means, float_weights(graph)))
    return passes


def fits_weights(config: QuantizationConfig) -> bool:
    """Whether some layer's weights are rounded by what its results should be, which takes data."""
    choices = [{"rounding": config.rounding, "weight_range": config.weight_range}]
    return any(
        fields.get("rounding") in FITTED or fields.get("weight_range") in FITTED
        for fields in (*choices, *config.overrides.values())
    )


def lowering_passes() -> list[Pass]:
    """QDQ to INTEGER."""
    return [FuseRequantize(), CertifyAccumulators()]
