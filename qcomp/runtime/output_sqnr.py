"""How near the integer outputs of a compiled network are to those of the float network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.quant.metrics import sqnr_db
from qcomp.runtime.interface import TensorInfo

Feed = Mapping[str, NDArray[Any]]
Answering = Callable[[Feed], Any]


def output_sqnr_db(
    imported: Graph, outputs: Iterable[TensorInfo], answers: Answering, samples: Iterable[Feed]
) -> float | None:
    """SQNR of what the network answers against the float network as imported, over all samples.

    None where no output is quantized (an ArgMax gives indices), and where the ratio is infinite, as
    JSON has no such number: nothing differs, or the float outputs are all 0.
    """
    from qcomp.execute.session import FloatSession

    session = FloatSession(imported)
    reference, answer = [], []
    for sample in samples:
        expected, got = session.run(sample), answers(sample)
        for output in outputs:
            if output.is_quantized:
                reference.append(expected[output.name].ravel())
                answer.append(got[output.name].ravel())
    if not reference:
        return None
    ratio = sqnr_db(np.concatenate(reference), np.concatenate(answer))
    return ratio if math.isfinite(ratio) else None
