"""An observer that notes how near every tensor is, behind each pass, to that of the first graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.tensor import Array
from qcomp.passes.base import PassRecord
from qcomp.passes.events import EventKind
from qcomp.quant.noise import Noise

FLOATS_DB = 120.0
"""What float arithmetic itself leaves; nothing is told apart above."""

Values = Callable[[Graph, Form], Sequence[Mapping[str, Array]]]


@dataclass
class TensorRatios:
    """Puts into the log of each pass the ratios, to .1 dB, that are others than behind the pass
    before; a tensor that was not told of yet has `FLOATS_DB`.

    `values` runs a graph of any form on some samples, and gives the tensors that stand for one of
    the model, by the model's names, in its layout and units.
    """

    values: Values
    _first: Sequence[Mapping[str, Array]] = ()
    _known: dict[str, float] = field(default_factory=dict)
    _ops: Sequence[Op] = ()

    def began(self, graph: Graph, form: Form) -> None:
        self._first, self._ops = self.values(graph, form), graph.ops()

    def passed(self, graph: Graph, record: PassRecord) -> None:
        ops = graph.ops()
        if ops == self._ops and not record.log.count(EventKind.DID):
            return
        self._ops = ops
        found = _ratios(self._first, self.values(graph, record.gives))
        for name, db in found.items():
            if db != self._known.get(name, FLOATS_DB):
                self._known[name] = record.log.tensors[name] = db

    def recorded(self, record: PassRecord) -> None:
        """The graph is as it was."""


def _ratios(
    first: Sequence[Mapping[str, Array]], after: Sequence[Mapping[str, Array]]
) -> dict[str, float]:
    noises: dict[str, Noise] = {}
    for one, other in zip(first, after, strict=True):
        for name, value in other.items():
            if name in one and one[name].shape == value.shape:
                noises[name] = noises.get(name, Noise()).plus([one[name]], [value])
    return {
        name: round(min(max(noise.db, -FLOATS_DB), FLOATS_DB), 1) for name, noise in noises.items()
    }
