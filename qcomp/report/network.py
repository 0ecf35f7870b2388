"""What a report asks of a compiled network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from qcomp.accuracy.record import Accuracy
from qcomp.evaluation import network as evaluated
from qcomp.findings.record import Finding
from qcomp.ir.graph import Graph
from qcomp.passes.ledger import PassEntry
from qcomp.quant.conversion import Conversion
from qcomp.targets.base import Artifact, Runtime


class Tensor(evaluated.Tensor, Protocol):
    """An input or output of a compiled network."""

    @property
    def dtype(self) -> str: ...
    @property
    def scale(self) -> float: ...
    @property
    def zero_point(self) -> int: ...
    @property
    def conversion(self) -> Conversion | None: ...


class Network(evaluated.Network, Protocol):
    """A compiled network."""

    @property
    def graph(self) -> Graph: ...
    @property
    def qdq(self) -> Graph | None: ...
    @property
    def ledger(self) -> tuple[PassEntry, ...]: ...
    @property
    def artifact(self) -> Artifact: ...
    @property
    def runtime(self) -> Runtime: ...
    @property
    def target(self) -> str: ...
    @property
    def isa(self) -> tuple[str, ...]: ...
    @property
    def inputs(self) -> Sequence[Tensor]: ...
    @property
    def outputs(self) -> Sequence[Tensor]: ...
    @property
    def accuracy(self) -> Accuracy | None: ...
    @property
    def shorter(self) -> Sequence[Network]: ...
    @property
    def findings(self) -> Sequence[Finding]: ...
    @property
    def notes(self) -> Sequence[str]: ...
