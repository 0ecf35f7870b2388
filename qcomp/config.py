"""Every choice of a compilation, in one frozen record."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qcomp.errors import CompileError

RANGES = ("mse", "minmax", "percentile", "ema")


@dataclass(frozen=True, kw_only=True)
class QuantizationConfig:
    """Choices of quantization; the command line's options have the same names.

    per_channel: one weight scale for each output channel; False: one for each tensor.
    symmetric_activations: activation zero points are 0.
    range: how activation ranges are estimated from calibration data: "mse" (least squared error of
        the quantized values), "minmax", "percentile" (99.999 %), "ema" (moving mean of extremes).
    input_range: the interval of the model's inputs, where there is no calibration data.
    equalize: cross-layer equalization before quantization (Nagel et al. 2019).
    bias_correction: "empirical" (the mean shift of each channel that rounding the weights causes on
        the calibration data is subtracted from the bias) or None.
    snap_scales: move weight scales by up to 0.1 % so that requantize multipliers are exact.
    """

    per_channel: bool = True
    symmetric_activations: bool = False
    range: str = "mse"
    input_range: tuple[float, float] = (-1.0, 1.0)
    equalize: bool = True
    bias_correction: str | None = "empirical"
    snap_scales: bool = True

    def __post_init__(self) -> None:
        if self.range not in RANGES:
            raise CompileError(f"range={self.range!r}: expected one of {', '.join(RANGES)}")
        low, high = self.input_range
        if not -math.inf < low < high < math.inf:
            raise CompileError(f"input_range={self.input_range}: expected (low, high), low < high")
        if self.bias_correction not in ("empirical", None):
            raise CompileError(
                f'bias_correction={self.bias_correction!r}: expected "empirical" or None'
            )
