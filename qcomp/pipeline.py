"""The passes of a compilation, in order, for a configuration with no field left "auto"."""

from __future__ import annotations

from qcomp.calibration.statistics import Statistics
from qcomp.config import QuantizationConfig
from qcomp.passes.annotate_ranges import AnnotateRanges
from qcomp.passes.base import Pass
from qcomp.passes.canonicalize_layout import CanonicalizeLayout
from qcomp.passes.certify_accumulators import CertifyAccumulators
from qcomp.passes.correct_bias import CorrectBias
from qcomp.passes.equalize_cross_layer import EqualizeCrossLayer, Relu6
from qcomp.passes.fold_batch_norm import FoldBatchNorm
from qcomp.passes.fold_constants import FoldConstants
from qcomp.passes.fuse_activation import FuseActivation
from qcomp.passes.fuse_requantize import FuseRequantize
from qcomp.passes.insert_quantize import InsertQuantize
from qcomp.passes.narrow_saturated_ranges import NarrowSaturatedRanges
from qcomp.passes.recompose_activations import RecomposeActivations
from qcomp.passes.snap_scales import SnapScales


def float_passes(config: QuantizationConfig) -> list[Pass]:
    """FLOAT to FLOAT: what the later passes want to see."""
    passes: list[Pass] = [
        FoldConstants(),
        CanonicalizeLayout(),
        RecomposeActivations(),
        FoldBatchNorm(),
        FuseActivation(),
    ]
    if config.equalize:
        relu6 = Relu6.KEEP if config.per_channel else Relu6.MINIMUM
        passes.append(EqualizeCrossLayer(relu6=relu6))
    return passes


def qdq_passes(config: QuantizationConfig, statistics: Statistics) -> list[Pass]:
    """FLOAT to QDQ."""
    passes: list[Pass] = [
        AnnotateRanges(statistics.ranges(config)),
        NarrowSaturatedRanges(),
        InsertQuantize(config),
    ]
    if config.snap_scales:
        passes.append(SnapScales())
    if config.bias_correction is not None:
        passes.append(CorrectBias(statistics.channel_means))
    return passes


def lowering_passes() -> list[Pass]:
    """QDQ to INTEGER."""
    return [FuseRequantize(), CertifyAccumulators()]
