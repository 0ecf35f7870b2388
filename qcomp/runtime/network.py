"""A compiled network: callable on numpy arrays, saved as a directory of C artefacts."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from qcomp.accuracy.record import Accuracy
from qcomp.calibration.data import Source
from qcomp.config import QuantizationConfig
from qcomp.errors import TargetError, UnsupportedOp
from qcomp.evaluation.record import Evaluation
from qcomp.findings.record import Finding
from qcomp.frontends import ModelLike
from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.passes.base import PassRecord
from qcomp.passes.ledger import PassEntry
from qcomp.runtime.calls import Calls
from qcomp.runtime.interface import Answers, Array, Arrays, Interface, TensorInfo
from qcomp.runtime.padded import Fitted, fitted
from qcomp.runtime.plans import plan_of
from qcomp.runtime.stream import Stream
from qcomp.runtime.summary import card, one_line, summary
from qcomp.runtime.timing import glance, times
from qcomp.targets.base import Artifact, Entry, Profile, Runtime

if TYPE_CHECKING:
    from qcomp.report.measure import Errors

_T = TypeVar("_T")
_NOT_COPIED: Mapping[str, None] = {"_loaded": None, "library": None, "directory": None}


def _itself(value: _T) -> _T:
    return value


@dataclass
class CompiledNetwork:
    """The answer of `compile` and `load`.

    `qdq` is the graph that was lowered to the integer one, which exports to other tools begin with;
    None where the model came in integers, or an earlier version saved it. A library of several
    lengths has a network for each: this one is of the largest, `shorter` are the others, and a call
    goes to the one whose inputs have the shapes that are given.

    Calling it takes floats and gives floats: an array for one input, a sequence in the model's
    order or a dict by name for several; the first axis may hold any multiple of the model's batch.
    A dict gives a dict, otherwise one output is an array and several are a tuple.
    """

    graph: Graph
    artifact: Artifact
    runtime: Runtime
    config: QuantizationConfig
    notes: tuple[str, ...] = ()
    records: tuple[PassRecord, ...] = ()
    accuracy: Accuracy | None = None
    findings: tuple[Finding, ...] = ()
    advice: tuple[str, ...] = ()
    samples: tuple[Mapping[str, Array], ...] = ()
    directory: Path | None = None
    library: Path | None = None  # the shared one that it was loaded with
    shorter: tuple[CompiledNetwork, ...] = ()
    stored_qdq: Callable[[], Graph] | None = None
    stored_ledger: Callable[[], tuple[PassEntry, ...]] | None = None
    _loaded: Entry | None = field(default=None, init=False, repr=False)

    def __repr__(self) -> str:
        return one_line(self)

    def _repr_html_(self) -> str:
        """A card, in notebooks."""
        return card(self, self._glance)

    @cached_property
    def _glance(self) -> float | None:
        return glance(self)

    def summary(self) -> str:
        """Sizes, inputs and outputs, accuracy, ops, notes and findings, in a few lines.

        >>> print(net.summary())
        """
        return summary(self)

    def __getstate__(self) -> dict[str, Any]:
        """For pickles and copies: all but the code in this process, which is loaded anew.

        A copy runs the best of its instruction sets, and is not bound to a directory.
        """
        kept = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.qdq is not None:
            kept["stored_qdq"] = partial(_itself, self.qdq)
        kept["stored_ledger"] = partial(_itself, self.ledger)
        return {**kept, **_NOT_COPIED}

    @cached_property
    def qdq(self) -> Graph | None:
        return None if self.stored_qdq is None else self.stored_qdq()

    @cached_property
    def ledger(self) -> tuple[PassEntry, ...]:
        """What each pass of the compilation did; empty where an earlier version saved it."""
        return () if self.stored_ledger is None else self.stored_ledger()

    @property
    def name(self) -> str:
        return self.artifact.name

    @property
    def target(self) -> str:
        return self.artifact.target

    @property
    def isa(self) -> tuple[str, ...]:
        return self.artifact.requires.isas

    @property
    def lengths(self) -> tuple[int, ...]:
        """Those that the library has plans for, from the largest to the smallest; none of one."""
        return self.artifact.lengths

    @property
    def plans(self) -> tuple[CompiledNetwork, ...]:
        """This network, and those of the shorter lengths."""
        return (self, *self.shorter)

    def _plan(self, x: Arrays) -> CompiledNetwork:
        """The one that takes these arrays; ValueError where there are several, and none does."""
        if not self.shorter:
            return self
        interfaces = [plan._interface for plan in self.plans]
        return self.plans[plan_of(interfaces, self._interface.arrays(x))]

    def _fitted(self, x: Arrays, *, integers: bool = False) -> Fitted | None:
        """Arrays of a length between as a plan takes them; None where one has their length, or
        nothing is padded.
        """
        padding = self.artifact.padding
        if padding is None or not self.shorter:
            return None
        arrays = self._interface.arrays(x)
        try:
            plan_of([plan._interface for plan in self.plans], arrays)
        except ValueError:
            return fitted(padding, self.lengths, self._interface, arrays, integers=integers)
        return None

    def _cut(self, x: Arrays, fit: Fitted, found: Any) -> Any:
        """Results of a plan in the form of the caller's arrays, of the length that they have."""
        assert self.artifact.padding is not None
        results = list(found) if isinstance(found, list | tuple) else [found]
        names = [output.name for output in self.outputs]
        cut = fit.cut(self.artifact.padding, names, results)
        return self._interface.like(x, cut, self.outputs)

    @property
    def arena_bytes(self) -> int:
        return self.artifact.memory.arena

    @property
    def weights_bytes(self) -> int:
        return self.artifact.memory.weights

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return self._interface.inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return self._interface.outputs

    @cached_property
    def _interface(self) -> Interface:
        return Interface.of(self.graph)

    @property
    def sqnr_db_output(self) -> float | None:
        """Of all outputs together; see `accuracy` for each part of them."""
        return None if self.accuracy is None else self.accuracy.sqnr_db

    @property
    def lacking(self) -> str | None:
        """What this machine lacks to run the generated code, by name; None where it can."""
        return self.runtime.lacking(self.artifact.requires)

    def __call__(self, x: Arrays, *, threads: int = 1) -> Any:
        """Float in, float out, through the generated code."""
        interface = self._interface
        if interface.is_one_run(x):
            results = self._calls.floats((x,), 1, threads)
            return results[0] if len(results) == 1 else tuple(results)
        if (fit := self._fitted(x)) is not None:
            return self._cut(x, fit, self.plans[fit.plan](fit.arrays, threads=threads))
        if (plan := self._plan(x)) is not self:
            return plan(x, threads=threads)
        arrays = interface.arrays(x)
        interface.expect_numbers(arrays)
        runs = interface.runs(arrays)
        if any(info.bounds is not None for info in self.inputs):
            interface.expect_rows(interface.quantized(arrays))
        return interface.like(x, self._calls.floats(arrays, runs, threads), self.outputs)

    def run_integer(self, x: Arrays, *, threads: int = 1) -> Any:
        """Integers of the inputs' types in, integers out, through the generated code.

        The same bits for any number of threads; more than one needs a C compiler, else TargetError.
        """
        if (fit := self._fitted(x, integers=True)) is not None:
            return self._cut(x, fit, self.plans[fit.plan].run_integer(fit.arrays, threads=threads))
        if (plan := self._plan(x)) is not self:
            return plan.run_integer(x, threads=threads)
        arrays = self._interface.arrays(x)
        self._interface.expect_integers(arrays)
        runs = self._interface.runs(arrays)
        self._interface.expect_rows(arrays)
        return self._interface.like(x, self._calls.integers(arrays, runs, threads), self.outputs)

    def specification(self, x: Arrays) -> Any:
        """Float in, float out, through the numpy meaning of the integer graph."""
        if (fit := self._fitted(x)) is not None:
            return self._cut(x, fit, self.plans[fit.plan].specification(fit.arrays))
        if (plan := self._plan(x)) is not self:
            return plan.specification(x)
        q = self.specification_integer(list(self._quantized(x)))
        real = self._interface.dequantized([q] if len(self.outputs) == 1 else q)
        return self._interface.like(x, real, self.outputs)

    def specification_integer(self, x: Arrays) -> Any:
        """`run_integer` through the numpy meaning of the integer graph."""
        if (fit := self._fitted(x, integers=True)) is not None:
            return self._cut(x, fit, self.plans[fit.plan].specification_integer(fit.arrays))
        if (plan := self._plan(x)) is not self:
            return plan.specification_integer(x)
        arrays = self._interface.arrays(x)
        self._interface.expect_integers(arrays)
        runs = self._interface.runs(arrays)
        self._interface.expect_rows(arrays)
        results = [np.empty(s, o.dtype) for s, o in self._interface.results(runs)]
        for i, part in enumerate(self._interface.parts(arrays, runs)):
            values = evaluate(self.graph, dict(zip(self.graph.inputs, part, strict=True)))
            for result, value in zip(results, values.values(), strict=True):
                result.reshape(runs, *value.shape)[i] = value
        return self._interface.like(x, results, self.outputs)

    def quantized(self, x: Arrays) -> Answers:
        """Floats to the integers of the inputs, in the form that they came in."""
        if (plan := self._plan(x)) is not self:
            return plan.quantized(x)
        answer: Answers = self._interface.like(x, self._quantized(x), self.inputs)
        return answer

    def _quantized(self, x: Arrays) -> list[Array]:
        arrays = self._interface.arrays(x)
        self._interface.expect_numbers(arrays)
        return self._interface.quantized(arrays)

    @cached_property
    def _calls(self) -> Calls:
        return Calls(self.entry(), self.artifact.memory, self._interface)

    def stream(self, *, specification: bool = False) -> Stream:
        """A sequence of runs that keep the network's states between them, in integers; through the
        generated code, or through the numpy meaning of the integer graph.
        """
        run = self._specified if specification else self._generated
        return Stream(self.graph, self._interface, run)

    def _generated(self, arrays: Sequence[Array]) -> Sequence[Array]:
        return self._calls.integers(arrays, 1, 1)

    def _specified(self, arrays: Sequence[Array]) -> Sequence[Array]:
        inputs = dict(zip(self.graph.inputs, arrays, strict=True))
        return list(evaluate(self.graph, inputs).values())

    def entry(self) -> Entry:
        """The generated code in this process; TargetError names what this machine lacks for it."""
        if self._loaded is None:
            self._loaded = self.runtime.load(self.artifact, self.graph, self.library)
        return self._loaded

    def profile(self) -> Profile:
        """The code by layers, as it would run here; TargetError as for `entry`."""
        return self.runtime.profile(self.artifact, self.graph)

    def runnable_isas(self) -> tuple[str, ...]:
        """Those of `isa` that this machine runs; TargetError where it is none."""
        entry = self.entry()
        able = [name for n, name in enumerate(self.isa, start=1) if entry.set_isa(n)]
        entry.set_isa(0)
        if not able:
            raise TargetError(f"this machine runs none of {', '.join(self.isa)}")
        return tuple(able)

    def use_isa(self, isa: str | None) -> None:
        """Run this one of `isa` from now on, or the best that the machine has (None, the default).

        TargetError where the library or the machine lacks it. Not while a run is in progress.
        """
        if isa is not None and isa not in self.isa:
            raise TargetError(f"{self.name} has no code for {isa}, only for {', '.join(self.isa)}")
        if not self.entry().set_isa(0 if isa is None else self.isa.index(isa) + 1):
            raise TargetError(f"this machine does not run {isa}")
        for plan in self.shorter:
            plan.use_isa(isa)

    def evaluate(
        self,
        data: Source,
        labels: ArrayLike | str | os.PathLike[str] | None = None,
        *,
        model: ModelLike | None = None,
        **options: Any,
    ) -> Evaluation:
        """How good it is on labelled data; with `model`, also how near to that float network.

        data, labels, options: as `qcomp.evaluate` takes them.

        >>> net.evaluate("photos/", model="net.onnx").agreement
        """
        from qcomp.evaluation.run import evaluate

        return evaluate(model, self, data, labels, **options)

    def errors(
        self,
        data: Source,
        *,
        count: int | None = 32,
        model: ModelLike | None = None,
        calibration: Source | None = None,
        **options: Any,
    ) -> Errors:
        """What each tensor errs by, alone and in the network, with causes and shares.

        data: as for `compile`; `count` samples of it at most. model, calibration: those that it was
        compiled from, without which errors of weights are not known; options: `samples`, `bind`,
        `bind_values` of then, and `progress`.

        >>> net.errors("photos/", model="net.onnx", calibration="photos/").shares[0]
        """
        from qcomp.report.measure import errors, subject

        found = subject(self, model, calibration, **options)
        shown = bool(options.get("progress"))
        return errors(found, found.samples(data, count), progress=shown)

    def report(self, path: str | os.PathLike[str], *, bench: float = 0.0, **options: Any) -> Path:
        """Write one HTML file with all that is known of the network.

        bench: seconds to time its ops for, on this machine; TargetError where it does not run them.
        options: `model`, `calibration`, `data`, `labels` and others of qcomp.report.make.report.

        >>> net.report("report.html", model="net.onnx", calibration="photos/")
        """
        from qcomp.report.make import report

        return report(self, path, times=times(self, bench) if bench else None, **options)

    def export(self, path: str | os.PathLike[str], format: str | None = None) -> tuple[str, ...]:
        """Write the network as another tool reads it; what is to be told of the file.

        format: "qdq", "tflite", "encodings" or "calibration-table"; by default that of the suffix.
        UnsupportedOp names what the format can't say.
        """
        if self.lengths:
            raise UnsupportedOp(
                [
                    f"{self.name} has the lengths {', '.join(map(str, self.lengths))}, and files "
                    "of other tools one; expected a network that was compiled for one"
                ]
            )
        from qcomp.runtime.exports import export

        return export(self.qdq, Path(path), format)

    def save(
        self,
        directory: str | os.PathLike[str],
        *,
        threads_pool: bool = False,
        bindings: Collection[str] = (),
    ) -> Path:
        """Write the library, header, manifest, vectors and specification; all or nothing.

        `threads_pool` adds C sources of a pool for NAME_set_parallel_for; `bindings` may have
        "rust", for a crate whose folder is the directory.
        """
        from qcomp.runtime.store import save

        self.directory = save(self, Path(directory), threads_pool=threads_pool, bindings=bindings)
        return self.directory


def plans_of(
    artifact: Artifact,
    graphs: Sequence[Graph],
    runtime: Runtime,
    config: QuantizationConfig,
    *,
    directory: Path | None = None,
    library: Path | None = None,
) -> tuple[CompiledNetwork, ...]:
    """The networks of the shorter lengths of a library, from the larger to the smaller."""
    return tuple(
        CompiledNetwork(
            graph,
            replace(artifact, plan=number),
            runtime,
            config,
            directory=directory,
            library=library,
        )
        for number, graph in enumerate(graphs, start=1)
    )
