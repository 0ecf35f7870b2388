"""What every worker needs to know, and the pure functions that it runs.

A task rounds each of some parts by itself in a float network, or puts each by itself in float in
the network quantized as configured. Graphs that differ in one part agree up to it: what comes
before runs once for all parts of a task, run by run, and only what comes behind runs for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from qcomp.cache import digest
from qcomp.calibration.runs import batch_of
from qcomp.calibration.statistics import float_outputs
from qcomp.ir.graph import Graph, constants_of
from qcomp.ir.tensor import Array
from qcomp.precision.cut import cut, prefix
from qcomp.precision.mixture import mixed
from qcomp.precision.parts import Kind, Part
from qcomp.quant.noise import Noise

Run = Mapping[str, Array]


@dataclass(frozen=True)
class Task:
    """`bits`: only that part is rounded, to so many bits; None: only it is float, all else is
    quantized as configured. The parts are of one kind.
    """

    kind: Kind
    bits: int | None
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The same for the same task, in any process."""
        members = ";".join(",".join(part.members) for part in self.parts)
        return f"{self.kind.value}{self.bits} {members}"


@dataclass(frozen=True, eq=False)
class Problem:
    """`graph` is FLOAT; the others are QDQ graphs of it: as configured, and for the bits of a kind.

    `runs` are inputs by public name, `reference` the float outputs of each run. Threads may share
    it.
    """

    graph: Graph
    parts: tuple[Part, ...]
    configured: Graph
    choices: Mapping[tuple[Kind, int], Graph]
    runs: tuple[Run, ...]
    reference: tuple[tuple[Array, ...], ...]

    @property
    def batch(self) -> int:
        """Samples of a run."""
        graph = self.graph
        return batch_of({name: graph.type(id) for name, id in graph.inputs.items()})

    def changed(self, kind: Kind, bits: int | None, part: Part) -> Graph:
        """The graph that differs from its base in one part."""
        if bits is not None:
            return mixed(self.graph, {part: self.choices[kind, bits]})
        return mixed(self.graph, {p: self.configured for p in self.parts if p != part})

    @cached_property
    def quantized(self) -> Graph:
        """All parts as configured."""
        return mixed(self.graph, dict.fromkeys(self.parts, self.configured))

    @cached_property
    def data_digest(self) -> str:
        """Of the runs."""
        names = (name for run in self.runs for name in run)
        return digest(names, (array for run in self.runs for array in run.values()))

    def digest(self, task: Task) -> str:
        """A name for the result of a task: all that it depends on."""
        graph = self.configured if task.bits is None else self.choices[task.kind, task.bits]
        return self._digest(self._digests[self._index(graph)], task.text)

    def digest_whole(self, graph: Graph) -> str:
        """The same for a whole graph."""
        return self._digest(digest_of(graph), "whole")

    def _digest(self, *of_task: str) -> str:
        of_problem = (_VERSION, self._digests[self._index(self.graph)], self.data_digest)
        return digest((*of_problem, *of_task), ())

    @cached_property
    def _graphs(self) -> list[Graph]:
        return [self.graph, self.configured, *self.choices.values()]

    @cached_property
    def _digests(self) -> list[str]:
        return [digest_of(graph) for graph in self._graphs]

    def _index(self, graph: Graph) -> int:
        return next(i for i, g in enumerate(self._graphs) if g is graph)


_VERSION = "2"
_MOST_VARIANTS = 8
_MOST_BYTES = 256 << 20  # of weights in the sessions of one task


def digest_of(graph: Graph) -> str:
    """Of the text and of all constants."""
    constants = dict(constants_of(graph))
    return digest((str(graph), *constants), constants.values())


def tasks_of(problem: Problem, kind: Kind, bits: int | None) -> list[Task]:
    """All parts of a kind, neighbours together: few enough that their sessions fit in memory."""
    weights = sum(array.nbytes for _, array in constants_of(problem.graph))
    count = max(1, min(_MOST_VARIANTS, _MOST_BYTES // max(1, weights)))
    parts = [part for part in problem.parts if part.kind is kind]
    return [Task(kind, bits, tuple(parts[i : i + count])) for i in range(0, len(parts), count)]


def evaluate(problem: Problem, task: Task) -> list[Noise]:
    """The noise of each part of the task, in order."""
    from qcomp.execute.session import FloatSession

    base = problem.graph if task.bits is not None else problem.quantized
    cuts = [cut(base, problem.changed(task.kind, task.bits, part)) for part in task.parts]
    wanted = dict.fromkeys(t for one in cuts for t in one.wanted)
    first = FloatSession(prefix(base, list(wanted)), threads=1)
    sessions = [
        FloatSession(one.suffix, threads=1) if one.suffix is not None else None for one in cuts
    ]
    sums = [Noise() for _ in cuts]
    for run, reference in zip(problem.runs, problem.reference, strict=True):
        before = {id: run[name] for name, id in base.inputs.items()}
        before |= first.run(before)
        for i, (one, session) in enumerate(zip(cuts, sessions, strict=True)):
            after = session.run({t: before[t] for t in one.reads}) if session is not None else {}
            answer = [after[t] if t in after else before[t] for t in one.outputs]
            sums[i] = sums[i].plus(reference, answer)
    return sums


def evaluate_whole(problem: Problem, graph: Graph) -> list[Noise]:
    """The noise of a graph with the inputs and outputs of the problem's."""
    total = Noise()
    answers = answers_of(graph, problem.runs)
    for reference, answer in zip(problem.reference, answers, strict=True):
        total = total.plus(reference, answer)
    return [total]


def answers_of(graph: Graph, runs: Sequence[Run]) -> list[tuple[Array, ...]]:
    """The f32 outputs of each run, in order."""
    from qcomp.execute.session import FloatSession

    outputs = tuple(float_outputs(graph).values())
    names = [name for name, t in graph.outputs.items() if t in outputs]
    session = FloatSession(graph, threads=1)
    answers = []
    for run in runs:
        results = session.run(run)
        answers.append(tuple(results[name] for name in names))
    return answers
