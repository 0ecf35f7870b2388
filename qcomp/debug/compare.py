"""The tensors of a library's runs against the specification: which op is the first that differs.

The specification computes each run from the inputs that the run tells of. As a wrong tensor spoils
all that follow, the first one counts, and what it was computed from is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qcomp.debug.dump import read_dump
from qcomp.debug.pattern import pattern
from qcomp.errors import ModelError, TargetError
from qcomp.ir.evaluate import evaluate_all
from qcomp.ir.graph import Graph
from qcomp.ir.numbering import activations
from qcomp.ir.tensor import Array, TensorId
from qcomp.ir.text import format_op
from qcomp.runtime.network import CompiledNetwork
from qcomp.runtime.verification import Case, all_cases
from qcomp.targets.base import TappedEntry


@dataclass(frozen=True, eq=False)
class FirstDifference:
    """The first tensor that differs in the first run where one does.

    ops: the lines of those computed between the operands and it, in order: several where a kernel
        computes several.
    operands: the activations that these read, which are right; expected, got: the tensor's values.
    pattern: how the values differ, and what makes values differ so.
    """

    run: str
    number: int
    tensor: TensorId
    ops: tuple[str, ...]
    operands: Mapping[TensorId, Array]
    expected: Array
    got: Array
    pattern: str

    @property
    def differing(self) -> int:
        return int(np.count_nonzero(self.expected != self.got))

    @property
    def place(self) -> tuple[int, ...]:
        """Of the first value that differs."""
        at = int((self.expected != self.got).argmax())
        return tuple(int(i) for i in np.unravel_index(at, self.got.shape))

    def json(self) -> dict[str, Any]:
        """Without the arrays, which `arrays` has."""
        return {
            "run": self.run,
            "number": self.number,
            "tensor": self.tensor,
            "ops": list(self.ops),
            "operands": list(self.operands),
            "values": self.got.size,
            "differing": self.differing,
            "place": list(self.place),
            "expected": int(self.expected[self.place]),
            "got": int(self.got[self.place]),
            "pattern": self.pattern,
        }

    def arrays(self) -> dict[str, Array]:
        """For an .npz: `expected`, `got`, and the operands under their ids."""
        operands = {f"operand {id}": value for id, value in self.operands.items()}
        return {"expected": self.expected, "got": self.got, **operands}


@dataclass(frozen=True, eq=False)
class Comparison:
    """Over all runs.

    differing: how many values of each tensor differ, of those where any does, in order.
    absent: the tensors that no run told of, which stand between others that are compared.
    clipped: the share of each tensor's values that lie at an end of its integers, as in
        `QParams.ends`; of those where there are any.
    """

    runs: int
    tensors: int
    values: int
    differing: Mapping[TensorId, int]
    absent: tuple[TensorId, ...]
    clipped: Mapping[TensorId, float]
    first: FirstDifference | None

    @property
    def exact(self) -> bool:
        return self.first is None

    def json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {
            "runs": self.runs,
            "tensors": self.tensors,
            "values": self.values,
            "differing": dict(self.differing),
            "absent": list(self.absent),
            "clipped": dict(self.clipped),
            "first": None if self.first is None else self.first.json(),
        }


def compare_dump(net: CompiledNetwork, path: Path) -> Comparison:
    """The runs of a device's dump; ModelError where it is none of the network, or cut.

    A dump that is cut behind a difference is read up to that run's end.
    """
    comparer = _Comparer(net.graph)
    try:
        for record in read_dump(path, net.graph):
            comparer.told(f"run {record.run}", record.number, record.data)
    except ModelError:
        comparer.end()
        if comparer.first is None:
            raise
    return comparer.result()


def compare_here(net: CompiledNetwork, samples: int) -> Comparison:
    """Runs of a saved library on this machine, on stored, edge and random vectors, as in `verify`.

    TargetError for one without taps.
    """
    if net.artifact.taps is None or net.directory is None:
        raise TargetError(f"{net.name} has no taps; compile it with --taps, or give a dump")
    return compare_runs(net, all_cases(net, net.directory, samples))


def compare_runs(net: CompiledNetwork, cases: Sequence[Case]) -> Comparison:
    """Runs of a library with taps, of each instruction set that this machine has."""
    entry = net.entry()
    assert isinstance(entry, TappedEntry)
    comparer = _Comparer(net.graph)
    for case in cases:
        inputs = [case.inputs[info.name] for info in net.inputs]
        for isa in net.runnable_isas():
            net.use_isa(isa)
            label = f"{case.kind}, {isa}"
            outputs = [np.empty(info.shape, info.dtype) for info in net.outputs]

            def tap(number: int, data: bytes, label: str = label) -> None:
                comparer.told(label, number, data)

            entry.run_tapped(inputs, outputs, net.artifact.memory.allocated(), tap)
    net.use_isa(None)
    return comparer.result()


@dataclass(eq=False)
class _Comparer:
    """Is told of tensors, run by run."""

    graph: Graph
    first: FirstDifference | None = None
    _runs: int = 0
    _values: int = 0
    _seen: set[TensorId] = field(default_factory=set)
    _differing: dict[TensorId, int] = field(default_factory=dict)
    _clipped: dict[TensorId, tuple[int, int]] = field(default_factory=dict)
    _label: str = ""
    _inputs: dict[TensorId, Array] = field(default_factory=dict)
    _right: Mapping[TensorId, Array] = field(default_factory=dict)
    _wrong: dict[int, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ids = activations(self.graph)

    def told(self, label: str, number: int, data: bytes) -> None:
        """Of a tensor; tensor 0 begins a run."""
        if number == 0:
            self.end()
            self._runs += 1
            self._label, self._inputs, self._right = label, {}, {}
        id = self._ids[number]
        type = self.graph.type(id)
        got = np.frombuffer(data, type.dtype.numpy).reshape(type.shape)
        if self.graph.producer(id) is None:
            self._inputs[id] = got
            return
        expected = self._specified(id)
        self._seen.add(id)
        self._values += got.size
        if (q := self.graph.tensor(id).qparams) is not None:
            clipped, of = self._clipped.get(id, (0, 0))
            self._clipped[id] = (clipped + int(np.isin(got, q.ends).sum()), of + got.size)
        if count := int(np.count_nonzero(expected != got)):
            self._differing[id] = self._differing.get(id, 0) + count
            if self.first is None:  # of the first run with a difference all are kept
                self._wrong[number] = got

    def end(self) -> None:
        """Of a run: the first of its tensors that differ."""
        if self._wrong and self.first is None:
            number = min(self._wrong)
            self.first = self._described(number, self._wrong[number])
        self._wrong = {}

    def result(self) -> Comparison:
        self.end()
        computed = [op.output for op in self.graph.ops()]
        return Comparison(
            self._runs,
            len(self._seen),
            self._values,
            {id: self._differing[id] for id in computed if id in self._differing},
            tuple(id for id in computed if id not in self._seen),
            {id: count / of for id, (count, of) in self._clipped.items() if count},
            self.first,
        )

    def _specified(self, id: TensorId) -> Array:
        if not self._right:
            names = {name: t for name, t in self.graph.inputs.items() if t in self._inputs}
            if lacking := [name for name in self.graph.inputs if name not in names]:
                raise ModelError(
                    f"{self._label} tells of %{id} before the inputs {', '.join(lacking)}"
                )
            given = {name: self._inputs[t] for name, t in names.items()}
            self._right = evaluate_all(self.graph, given)
        return self._right[id]

    def _described(self, number: int, got: Array) -> FirstDifference:
        id = self._ids[number]
        ops = list(self._computed_for(id))
        inside = {op.output for op in ops}
        read = dict.fromkeys(t for op in ops for t in self.graph.activations(op))
        expected = self._right[id]
        return FirstDifference(
            run=self._label,
            number=number,
            tensor=id,
            ops=tuple(format_op(self.graph, op) for op in ops),
            operands={t: self._right[t] for t in read if t not in inside},
            expected=expected,
            got=got,
            pattern=pattern(expected, got, self.graph.tensor(id).qparams),
        )

    def _computed_for(self, id: TensorId) -> Iterator[Any]:
        """The op of a tensor, behind those of operands that the run did not tell of."""
        wanted, found = [id], set()
        while wanted:
            op = self.graph.producer(wanted.pop())
            if op is None or op.output in found:
                continue
            found.add(op.output)
            wanted += [t for t in self.graph.activations(op) if t not in self._seen]
        return (op for op in self.graph.ops() if op.output in found)
