"""Which part of the generated code is not exact: the code made in other ways, and the first op."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qcomp.config import QuantizationConfig
from qcomp.debug.bisection import Bisection, Trial
from qcomp.debug.compare import compare_runs
from qcomp.ir.graph import Graph
from qcomp.progress import bar
from qcomp.runtime.network import CompiledNetwork
from qcomp.runtime.verification import Case, difference, edge_cases, random_cases
from qcomp.targets.base import Target, tappable

EXACT = "exact"
_RANDOM = 8  # vectors, besides those of extremes


@dataclass(frozen=True)
class Exactness:
    """The integer graph of a configuration, and the target that makes code of it."""

    graph: Graph
    config: QuantizationConfig
    target: Target

    def search(self, *, progress: bool) -> Bisection:
        """The share of output values that are as specified, in trials of the code's choices.

        TargetError where this machine can't run the code.
        """
        cases = self._cases()
        with bar("trying", shown=progress, counted=False) as steps:
            base = self._exact(self.target, cases, steps.advance)
            trials = list(self._trials(cases, base, steps.advance)) if base < 1.0 else []
        causes = tuple(t.name for t in trials if t.value == 1.0 and t.name != "plain code")
        return Bisection(
            metric=EXACT,
            unit="",
            samples=len(cases),
            of_float=1.0,
            base=base,
            together=1.0 if causes else None,
            data=(),
            trials=tuple(trials),
            causes=causes,
            verdict=self._verdict(base, causes, trials),
        )

    def _network(self, target: Target) -> CompiledNetwork:
        artifact = target.emit(self.graph, "bisected")
        return CompiledNetwork(self.graph, artifact, target.runtime, self.config)

    def _cases(self) -> list[Case]:
        net = self._network(self.target)
        return [*edge_cases(net), *random_cases(net, _RANDOM)]

    def _exact(self, target: Target, cases: list[Case], step: Callable[[], None]) -> float:
        """On all instruction sets that this machine has."""
        net, differing, values = self._network(target), 0, 0
        for case in cases:
            expected: Mapping[str, Any] = net.specification_integer(case.inputs)
            for isa in net.runnable_isas():
                net.use_isa(isa)
                answers = net.run_integer(case.inputs)
                found = [difference(answers[name], right) for name, right in expected.items()]
                differing += sum(f.differing_values for f in found)
                values += sum(f.values for f in found)
        step()
        return 1.0 - differing / values

    def _trials(self, cases: list[Case], base: float, step: Callable[[], None]) -> Iterator[Trial]:
        for name, other in tappable(self.target).otherwise().items():
            value = self._exact(other, cases, step)
            yield Trial(name, "code", value, value - base)

    def _verdict(self, base: float, causes: tuple[str, ...], trials: list[Trial]) -> str:
        if base == 1.0:
            return "the generated code is as specified"
        first = compare_runs(self._network(tappable(self.target).tapped()), self._cases()).first
        where = "" if first is None else f"; with taps the first op that differs is {first.ops[-1]}"
        listed = f"exact with {' or '.join(causes)}" if causes else "in no way of these exact"
        return f"{base:.4%} of output values are as specified; {listed}{where}"
