"""What trials of configurations are judged by: the noise that quantization puts on the outputs.

A trial simulates the QDQ form with ONNX Runtime on a few samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.calibration.statistics import float_outputs
from qcomp.config import QuantizationConfig
from qcomp.export.session import FloatSession
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Dequantize, Quantize
from qcomp.ir.tensor import Tensor, TensorId
from qcomp.quant.qparams import QParams
from qcomp.quantizer import Quantizer

F64 = NDArray[np.float64]
Feed = Mapping[str, NDArray[Any]]


@dataclass
class Judge:
    """Compares outputs with those of the float network, which it computes once."""

    quantizer: Quantizer
    _reference: list[F64] = field(default_factory=list)

    def tried(
        self,
        config: QuantizationConfig,
        samples: Sequence[Feed],
        fitted_to: Sequence[Feed] | None = None,
    ) -> Noise:
        """Of a configuration, on samples; see `Quantizer.quantized` for `fitted_to`."""
        return self.noise(self.quantizer.quantized(config, fitted_to), samples)

    def noise(self, graph: Graph, samples: Sequence[Feed]) -> Noise:
        """Of a QDQ graph's float outputs against the float network."""
        reference = self._answers(samples)
        got = _outputs(graph, samples)
        pairs = list(zip(reference, got, strict=True))
        return Noise(
            np.array([float(np.sum(a**2)) for a in reference]),
            np.array([float(np.sum((a - b) ** 2)) for a, b in pairs]),
        )

    def _answers(self, samples: Sequence[Feed]) -> list[F64]:
        if len(self._reference) < len(samples):
            self._reference = _outputs(self.quantizer.normalized, samples)
        return self._reference[: len(samples)]


@dataclass(frozen=True, eq=False)
class Noise:
    """Power of the reference and of the difference, one of each per sample."""

    signal: F64
    difference: F64

    @property
    def db(self) -> float:
        """The signal to noise ratio over all samples, as `qcomp.quant.metrics.sqnr_db` has it."""
        noise = float(self.difference.sum())
        return float(10 * np.log10(self.signal.sum() / noise)) if noise > 0 else np.inf

    def improves(self, other: Noise, least: float) -> bool:
        """Whether it is better by `least` dB, and better on each half of the samples.

        What helps on one half only is taken for chance.
        """
        if self.db < other.db + least:
            return False
        return all(
            self.difference[half].sum() < other.difference[half].sum()
            for half in (slice(0, None, 2), slice(1, None, 2))
            if self.difference[half].size
        )


def with_quantized(graph: Graph, qparams: Mapping[TensorId, QParams]) -> Graph:
    """A float graph in which only these activations are rounded."""
    result = graph.clone()
    for id, q in qparams.items():
        readers = result.consumers(id)
        names = [name for name, t in result.outputs.items() if t == id]
        op_id = result.fresh_id(f"{id}.q")
        rounded = result.add_op(Quantize(inputs=(id,), output=op_id, bits=q.bits))
        result.update_tensor(Tensor(rounded, result.tensor(rounded).type, qparams=q))
        back = result.add_op(Dequantize(inputs=(rounded,), output=result.fresh_id(f"{id}.dq")))
        for op in readers:
            result.set_inputs(op, tuple(back if t == id else t for t in op.inputs))
        for name in names:
            result.outputs[name] = back
    return result


def _outputs(graph: Graph, samples: Sequence[Feed]) -> list[F64]:
    """All float outputs of each sample, one after the other."""
    session = FloatSession(graph)
    floats = float_outputs(graph)
    answers = []
    for sample in samples:
        results = session.run(sample)
        answers.append(np.concatenate([results[n].astype(np.float64).ravel() for n in floats]))
    return answers
