"""The way of a compilation gone again: the float graph that a saved network was quantized from.

Every choice is in the network's configuration, so nothing is searched for. What depends on data
(factors of equalization) is the same for the same data; whether it is shows by the weights, which
must be near those of the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qcomp.calibration.data import Source
from qcomp.calibration.samples import ConvertedSamples, Samples, samples_of
from qcomp.config import QuantizationConfig
from qcomp.ends import ends_outside, taken_as
from qcomp.errors import CompileError
from qcomp.frontends import ModelLike, import_model
from qcomp.ir.form import Form
from qcomp.ir.given import is_quantized_already
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Dequantize, FakeQuantConstant, Quantize, QuantizedConstant, Weighted
from qcomp.ir.tensor import Array, Mark, TensorId
from qcomp.passes.ledger import Ledger, PassEntry
from qcomp.quantizer import Quantizer
from qcomp.recipes.choose import evidence_for
from qcomp.report.answers import output_difference, tensor_ratios

_NEAR = 0.9  # the cosine of a layer's weights of 8 bits to the model's
_NEAR_ENOUGH = 0.4  # of fewer bits, and of weights that were fitted to what they read


@dataclass(frozen=True, eq=False)
class Replay:
    """`taken` is the model with inputs as the caller has them, `inside` what the passes begin with.

    `graph` is the float graph that was quantized.
    """

    taken: Graph
    inside: Graph
    quantizer: Quantizer
    config: QuantizationConfig
    seen: Ledger = field(default_factory=Ledger)

    def passes(self) -> Sequence[PassEntry]:
        """Every pass, and by how much it moved the outputs; none where layers are fitted to data,
        which takes as long as it took.
        """
        if self.quantizer.fits(self.config):
            return ()
        self.quantizer.integer(self.config)
        return self.seen.entries

    @property
    def is_quantized(self) -> bool:
        """Whether the model came with scales of its own: it has no floats to be compared with."""
        return self.quantizer.form is not Form.FLOAT or is_quantized_already(
            self.quantizer.normalized
        )

    @property
    def graph(self) -> Graph:
        return self.quantizer.equalized(self.config)

    def samples(self, source: Source, count: int | None) -> Samples:
        """Data in the units of `inside`."""
        how = self.config.preprocessing
        found = samples_of(self.taken, source, preprocessing=how, samples=count)
        return ConvertedSamples(found, self.inside.conversions)


def replayed(
    model: ModelLike,
    calibration: Source | None,
    config: QuantizationConfig,
    *,
    samples: int | None = None,
    bind: Mapping[str, int] | None = None,
    bind_values: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Replay:
    """As `compile` goes with this configuration, up to the float graph that is quantized."""
    imported = import_model(model, bind=bind, bind_values=bind_values)
    taken = taken_as(imported.graph, imported.form, config)
    evidence = evidence_for(taken, calibration, config, samples=samples, progress=progress)
    inside = ends_outside(taken, imported.form, evidence, float_tail=config.float_tail)
    inner, ledger = evidence.inside(inside), Ledger()
    observers = (output_difference(inside, inner), tensor_ratios(inside, inner), ledger)
    quantizer = Quantizer(inside, imported.form, inner, observers=observers)
    return Replay(taken, inside, quantizer, config, ledger)


def expect_alike(reference: Graph, qdq: Graph) -> None:
    """CompileError where a QDQ graph is not that of the float graph, or of another equalization."""
    for op in qdq.ops():
        if isinstance(op, Quantize | Dequantize | QuantizedConstant):
            continue
        made = reference.producer(op.output) if op.output in reference else None
        if made is None or type(made) is not type(op) or _type(reference, op) != _type(qdq, op):
            raise CompileError(
                f"%{op.output} of the network is no {op.mnemonic} of the model's float graph: "
                "expected the model that it was compiled from, and the --bind of then"
            )
        if isinstance(op, Weighted) and isinstance(made, Weighted):
            weight, rounded = reference.data(made.weight), _rounded(qdq, op.weight)
            found = _cosine(weight, rounded)
            if found < _least_cosine(qdq, op.weight):
                raise CompileError(
                    f"the weights of %{op.output} have a cosine of {found:.2f} to the model's: "
                    "expected the --calibration and --samples that it was compiled with"
                )


def _cosine(a: Array, b: Array) -> float:
    x, y = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    power = float(np.sqrt(np.dot(x, x) * np.dot(y, y)))
    return float(np.dot(x, y)) / power if power else 1.0


def _least_cosine(qdq: Graph, weight: TensorId) -> float:
    op = qdq.producer(weight)
    marks = qdq.tensor(op.x if isinstance(op, FakeQuantConstant) else weight).marks
    is_few = isinstance(op, FakeQuantConstant) and op.bits < 8
    return _NEAR_ENOUGH if is_few or Mark.FITTED in marks else _NEAR


def _type(graph: Graph, op: Any) -> Any:
    return graph.type(op.output)


def _rounded(qdq: Graph, id: TensorId) -> Any:
    from qcomp.ir.evaluate import apply

    op = qdq.producer(id)
    return qdq.data(id) if op is None else apply(qdq, op, {})
