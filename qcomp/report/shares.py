"""Which ops explain the error at the outputs: the isolated error of each, carried there by floats.

The float network runs from the op on, with the op's isolated values in place of its own. What that
does to the outputs is the op's noise there. Errors of different ops are nearly independent, so the
noises add up to about that of the integer network, and the sum tells how nearly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qcomp.calibration.statistics import float_activations, float_outputs
from qcomp.execute.blocks import work_of
from qcomp.execute.session import FloatSession
from qcomp.ir.graph import Graph
from qcomp.ir.region import between
from qcomp.ir.tensor import Array, TensorId
from qcomp.quant.noise import Noise
from qcomp.report.pairs import Pairs

Values = Mapping[TensorId, Array]

MOST_SAMPLES = 8
_WORK = 400e9  # multiplications that all runs together may take
_MOST_BYTES = 1 << 29  # of values that are kept


@dataclass(frozen=True)
class Share:
    """Of one integer tensor: its noise at all outputs together, and its part of that of all."""

    id: TensorId
    noise: Noise
    share: float


@dataclass
class OutputShares:
    """Keeps the first samples that it is given, and carries the errors of every op through them."""

    pairs: Pairs
    _real: list[Values] = field(default_factory=list)
    _isolated: list[Values] = field(default_factory=list)
    _most: int | None = None

    def add(self, real: Values, isolated: Values) -> None:
        """One sample: what the float network gives, and each op by itself; more are passed over."""
        if self._most is None:
            self._most = self._limit(isolated)
        if len(self._real) < self._most:
            kept = float_activations(self.pairs.reference)
            self._real.append({id: real[id] for id in kept if id in real})
            self._isolated.append(isolated)

    @property
    def samples(self) -> int:
        return len(self._real)

    def found(self, told: Callable[[], None] = lambda: None) -> Sequence[Share]:
        """The largest first; `told` is called after each op."""
        noises: dict[TensorId, Noise] = {}
        for id in self._isolated[0] if self._isolated else ():
            noises[id] = self._noise(id)
            told()
        total = sum(noise.noise for noise in noises.values())
        shares = [Share(id, n, n.noise / total if total else 0.0) for id, n in noises.items()]
        return sorted(shares, key=lambda share: -share.noise.noise)

    def _limit(self, isolated: Values) -> int:
        """So many samples that neither time nor memory gets large."""
        graph = self.pairs.reference
        work = sum(work_of(graph, op) for op in graph.ops()) * max(len(isolated), 1) / 2
        size = 2 * sum(graph.type(id).bytes for id in float_activations(graph))
        return int(np.clip(min(_WORK / max(work, 1), _MOST_BYTES / max(size, 1)), 1, MOST_SAMPLES))

    def _noise(self, id: TensorId) -> Noise:
        """Of all float outputs, over the samples that are kept."""
        graph, real = self.pairs.reference, self.pairs.floats[id]
        outputs = float_outputs(graph)
        behind = reached(graph, real)
        moved = [t for t in dict.fromkeys(outputs.values()) if t in behind and t != real]
        given = [t for t in self._real[0] if t not in behind or t == real]
        suffix = between(graph, given, moved) if moved else None
        session = None if suffix is None else FloatSession(suffix)
        total = Noise()
        for values, isolated in zip(self._real, self._isolated, strict=True):
            changed = {real: isolated[id]}
            if session is not None and suffix is not None:
                feed = {t: changed.get(t, values[t]) for t in suffix.inputs}
                changed |= session.run(feed)
            for t in outputs.values():
                total = total.plus([values[t]], [changed.get(t, values[t])])
        return total


def reached(graph: Graph, id: TensorId) -> set[TensorId]:
    """The tensor, and all results that depend on it."""
    found = {id}
    for op in graph.ops():
        if not found.isdisjoint(op.inputs):
            found.add(op.output)
    return found
