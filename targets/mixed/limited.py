"""A target that is handed some kinds of ops only: `opencl[q_conv2d,q_dense]`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import OPS, Op
from qcomp.targets.base import Artifact, Border, Runtime, Target


@dataclass(frozen=True)
class Limited:
    """`takes` are mnemonics, as in a graph's text; TargetError for one that no op has."""

    target: Target
    takes: tuple[str, ...]

    def __post_init__(self) -> None:
        if unknown := [mnemonic for mnemonic in self.takes if mnemonic not in OPS]:
            raise TargetError(f"no op is called {', '.join(unknown)}; there are: {', '.join(OPS)}")

    @property
    def name(self) -> str:
        return f"{self.target.name}[{','.join(self.takes)}]"

    @property
    def runtime(self) -> Runtime:
        return self.target.runtime

    @property
    def border(self) -> Border:
        return self.target.border

    def supports(self, graph: Graph, op: Op) -> str | None:
        if op.mnemonic not in self.takes:
            return f"{op.mnemonic} is not among those that it is to take"
        return self.target.supports(graph, op)

    def keeping(self, directory: Path) -> Limited:
        return replace(self, target=self.target.keeping(directory))

    def emit(self, graph: Graph, name: str) -> Artifact:
        return replace(self.target.emit(graph, name), target=self.name)

    def cost(self, macs: int, results: int, activation_bytes: int, bits: int) -> float:
        return self.target.cost(macs, results, activation_bytes, bits)

    def weight_bytes(self, shape: tuple[int, ...], groups: int, bits: int) -> int:
        return self.target.weight_bytes(shape, groups, bits)
