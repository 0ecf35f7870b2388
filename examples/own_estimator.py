"""An estimator of one's own: activation ranges that cut a thousandth of the values at each end."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import qcomp
from qcomp.extensions import ESTIMATORS
from qcomp.quant.distribution import Distribution, Range
from qcomp.quant.integer_grid import IntegerGrid

HERE = Path(__file__).resolve().parent
SHARE = 0.001


def trimmed(distribution: Distribution, grid: IntegerGrid) -> Range:
    """The edges of the bins that hold the first and the last value which stays."""
    bins = distribution.bins
    below = np.cumsum(bins.count) / bins.total
    first = int(np.searchsorted(below, SHARE, side="right"))
    last = int(np.searchsorted(below, 1 - SHARE))
    return float(bins.left[first]), float(bins.right[last])


def main() -> None:
    ESTIMATORS.add("acme.trimmed", trimmed)  # a package has an entry point instead
    for kind in ("minmax", "acme.trimmed"):
        net = qcomp.compile(
            HERE / "digits.onnx",
            calibration=HERE / "digits_calibration.npz",
            config=qcomp.QuantizationConfig(recipe="fast", range=kind),
        )
        print(f"range={kind!r}: {net.sqnr_db_output:.1f} dB")


if __name__ == "__main__":
    main()
