"""What noise on the scores of a classifier does to its answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.calibration.statistics import float_outputs
from qcomp.ir.graph import Graph

_LEAST_CLASSES = 5
_CERTAIN = 40.0  # deviations: no probability is left


def scores_of_classes(graph: Graph) -> str | None:
    """The public name of the only output, where it scores classes, [N, classes]."""
    outputs = float_outputs(graph)
    if len(outputs) != 1 or len(graph.outputs) != 1:
        return None
    ((name, id),) = outputs.items()
    shape = graph.type(id).shape
    is_list = len(shape) >= 2 and shape[-1] >= _LEAST_CLASSES
    return name if is_list and math.prod(shape[1:]) == shape[-1] else None


def expected_agreement(scores: NDArray[Any], power: float) -> float:
    """The share of samples that keep their class under noise of that power on each score.

    scores: [samples, classes]. With independent normal noise the largest falls behind one that is
    m less with probability Phi(-m / sqrt(2 power)); their sum over all classes bounds what is lost.
    Measured, 600 images: squeezenet1_1 at 36 dB .960 to .973 of the decisions, expected .966.
    """
    if power <= 0.0:
        return 1.0
    ordered = np.sort(scores.astype(np.float64), axis=1)
    margins = (ordered[:, -1:] - ordered[:, :-1]) / (2.0 * math.sqrt(power))
    lost = [sum(math.erfc(m) for m in row if m < _CERTAIN) / 2.0 for row in margins.tolist()]
    return 1.0 - float(np.mean(np.minimum(lost, 1.0)))
