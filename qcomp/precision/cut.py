"""What of a changed graph has to run again: the ops behind the change, from the tensors before it.

An op is unchanged if the base has the same one, reading unchanged tensors and the same constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcomp.calibration.statistics import float_outputs
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.region import between, with_outputs
from qcomp.ir.tensor import TensorId


@dataclass(frozen=True, eq=False)
class Cut:
    """`suffix` reads `reads` of the base and gives those `outputs` that changed, all by tensor id.

    `outputs` are the f32 outputs in their order; what the suffix does not give is the base's. It is
    None where the change reaches no output.
    """

    suffix: Graph | None
    reads: tuple[TensorId, ...]
    outputs: tuple[TensorId, ...]

    @property
    def wanted(self) -> list[TensorId]:
        """What the base has to give: operands of the suffix, and outputs that it does not reach."""
        given = () if self.suffix is None else self.suffix.outputs
        return [*self.reads, *(t for t in self.outputs if t not in given)]


def cut(base: Graph, changed: Graph) -> Cut:
    """Both have the same inputs and outputs; constants that are the same array are unchanged."""
    same = _Same(base, changed)
    outputs = tuple(float_outputs(changed).values())
    left = [t for t in outputs if not same.tensor(t)]
    if not left:
        return Cut(None, (), outputs)
    given = [t.id for t in changed.tensors() if not t.is_constant and same.tensor(t.id)]
    suffix = between(changed, given, left)
    return Cut(suffix, tuple(suffix.inputs), outputs)


def prefix(base: Graph, ids: Sequence[TensorId]) -> Graph:
    """The part of `base` that computes those of `ids` that are results."""
    return with_outputs(base, [id for id in ids if base.producer(id) is not None])


class _Same:
    """Which tensors of `changed` have the value that they have in `base`."""

    def __init__(self, base: Graph, changed: Graph) -> None:
        self._base, self._changed = base, changed
        self._results: set[TensorId] = set()
        for op in changed.ops():
            if self._is_same(op) and all(map(self.tensor, op.inputs)):
                self._results.add(op.output)

    def tensor(self, id: TensorId) -> bool:
        if self._changed.producer(id) is not None:
            return id in self._results
        return id in self._base and self._base.tensor(id).data is self._changed.tensor(id).data

    def _is_same(self, op: Op) -> bool:
        id = op.output
        return (
            id in self._base
            and self._base.producer(id) == op
            and self._base.tensor(id).qparams == self._changed.tensor(id).qparams
        )
