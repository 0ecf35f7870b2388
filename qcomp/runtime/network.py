"""A compiled network: callable on numpy arrays, saved as a directory of C artefacts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qcomp.accuracy.record import Accuracy
from qcomp.config import QuantizationConfig
from qcomp.errors import TargetError
from qcomp.findings.record import Finding
from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.passes.base import PassRecord
from qcomp.runtime.interface import Array, Arrays, TensorInfo, describe_tensors
from qcomp.targets.base import Artifact, Entry, Profile, Runtime


@dataclass
class CompiledNetwork:
    """The answer of `compile` and `load`.

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
    samples: tuple[Mapping[str, Array], ...] = ()
    directory: Path | None = None
    library: Path | None = None  # the shared one that it was loaded with
    _loaded: Entry | None = field(default=None, init=False, repr=False)

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
    def arena_bytes(self) -> int:
        return self.artifact.memory.arena

    @property
    def weights_bytes(self) -> int:
        return self.artifact.memory.weights

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return describe_tensors(self.graph, self.graph.inputs)

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return describe_tensors(self.graph, self.graph.outputs)

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
        return self._dequantized(self.run_integer(self.quantized(x), threads=threads), x)

    def run_integer(self, x: Arrays, *, threads: int = 1) -> Any:
        """Integers of the inputs' types in, integers out, through the generated code.

        The same bits for any number of threads; more than one needs a C compiler, else TargetError.
        """
        entry = self.entry()
        arena = self.artifact.memory.allocated()
        shapes = [(o.shape, np.dtype(o.dtype)) for o in self.outputs]

        def run(inputs: Sequence[Array]) -> list[Array]:
            outputs = [np.empty(shape, dtype) for shape, dtype in shapes]
            entry([np.ascontiguousarray(a) for a in inputs], outputs, arena)
            return outputs

        with entry.sharing.among(threads):
            return self._in_batches(x, run)

    def specification(self, x: Arrays) -> Any:
        """Float in, float out, through the numpy meaning of the integer graph."""
        return self._dequantized(self.specification_integer(self.quantized(x)), x)

    def specification_integer(self, x: Arrays) -> Any:
        """`run_integer` through the numpy meaning of the integer graph."""
        names = list(self.graph.inputs)

        def run(inputs: Sequence[Array]) -> list[Array]:
            return list(evaluate(self.graph, dict(zip(names, inputs, strict=True))).values())

        return self._in_batches(x, run)

    def quantized(self, x: Arrays) -> Arrays:
        """Floats to the integers of the inputs, in the form that they came in."""
        arrays = self._arrays(x)
        result = []
        for array, info in zip(arrays, self.inputs, strict=True):
            if array.dtype.kind not in "fiu":
                raise ValueError(f"input {info.name}: expected numbers, got {array.dtype}")
            with np.errstate(over="ignore"):
                result.append(info.quantized(array.astype(np.float32)))
        answer: Arrays = self._like(x, result, [i.name for i in self.inputs])
        return answer

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

    def save(self, directory: str | Path, *, threads_pool: bool = False) -> Path:
        """Write the library, header, manifest, vectors and specification; all or nothing.

        `threads_pool` adds C sources of a pool for NAME_set_parallel_for.
        """
        from qcomp.runtime.store import save

        self.directory = save(self, Path(directory), threads_pool=threads_pool)
        return self.directory

    def _dequantized(self, q: Any, x: Arrays) -> Any:
        arrays = (
            list(q.values()) if isinstance(q, dict) else list(q) if isinstance(q, tuple) else [q]
        )
        real = [info.dequantized(array) for array, info in zip(arrays, self.outputs, strict=True)]
        return self._like(x, real, [o.name for o in self.outputs])

    def _in_batches(self, x: Arrays, run: Callable[[Sequence[Array]], list[Array]]) -> Any:
        arrays = self._arrays(x)
        for array, info in zip(arrays, self.inputs, strict=True):
            if array.dtype != info.dtype:
                raise ValueError(f"input {info.name}: expected {info.dtype}, got {array.dtype}")
        count = self._batches(arrays)
        parts = [
            run([a[i * n : (i + 1) * n] if s else a for a, n, s in self._steps(arrays)])
            for i in range(count)
        ]
        joined = []
        for k, info in enumerate(self.outputs):
            results = [p[k] for p in parts]
            stackable = info.shape[:1] == (self._batch(),)
            joined.append(
                results[0]
                if count == 1
                else np.concatenate(results)
                if stackable
                else np.stack(results)
            )
        return self._like(x, joined, [o.name for o in self.outputs])

    def _batch(self) -> int:
        shape = self.inputs[0].shape if self.inputs else ()
        return shape[0] if shape else 0

    def _steps(self, arrays: Sequence[Array]) -> list[tuple[Array, int, bool]]:
        return [
            (a, info.shape[0] if info.shape else 1, bool(info.shape))
            for a, info in zip(arrays, self.inputs, strict=True)
        ]

    def _batches(self, arrays: Sequence[Array]) -> int:
        """How many runs the arrays hold; ValueError where shapes do not fit."""
        counts = set()
        for array, info in zip(arrays, self.inputs, strict=True):
            wanted = f"input {info.name}: expected [{', '.join(map(str, info.shape))}]"
            if array.ndim != len(info.shape) or array.shape[1:] != info.shape[1:]:
                raise ValueError(f"{wanted} with any multiple of samples, got {list(array.shape)}")
            if info.shape and (array.shape[0] == 0 or array.shape[0] % info.shape[0]):
                raise ValueError(
                    f"{wanted}, {array.shape[0]} samples are no multiple of {info.shape[0]}"
                )
            counts.add(array.shape[0] // info.shape[0] if info.shape else 1)
        if len(counts) != 1:
            raise ValueError(f"inputs hold different numbers of samples: {sorted(counts)} runs")
        return counts.pop()

    def _arrays(self, x: Arrays) -> list[Array]:
        names = [i.name for i in self.inputs]
        if isinstance(x, Mapping):
            if set(x) != set(names):
                raise ValueError(f"expected the inputs {names}, got {list(x)}")
            return [np.asarray(x[n]) for n in names]
        arrays = [x] if hasattr(x, "__array__") or np.isscalar(x) else list(x)
        if len(arrays) != len(names):
            raise ValueError(f"expected {len(names)} inputs {names}, got {len(arrays)}")
        return [np.asarray(a) for a in arrays]

    @staticmethod
    def _like(x: Arrays, arrays: Sequence[Array], names: Sequence[str]) -> Any:
        if isinstance(x, Mapping):
            return dict(zip(names, arrays, strict=True))
        return arrays[0] if len(arrays) == 1 else tuple(arrays)
