"""What a target is, what it makes, and what is done with that: all that the rest of qcomp knows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.padding import Padding
from qcomp.ir.tensor import TensorId
from qcomp.targets.layout import Layout

Arrays = Sequence[NDArray[Any]]

ABI = 1  # the version of the functions in headers


@dataclass(frozen=True)
class Requirements:
    """What a machine must have to run an artifact.

    `features` are those of the processor, by instruction set, from the least to the most able: one
    of the sets suffices. `libraries` are the system's, which programs are linked with.
    """

    triple: str
    features: Mapping[str, tuple[str, ...]]
    libraries: tuple[str, ...]

    @property
    def isas(self) -> tuple[str, ...]:
        """The instruction sets, by name."""
        return tuple(self.features)


@dataclass(frozen=True)
class Border:
    """What a target costs besides its computing, in nanoseconds: a rough estimate.

    launch_ns: of each op. transfer_ns: of each tensor that is copied between its memory and main
    memory, and bytes_per_ns of them then; none where the target computes in main memory.
    """

    launch_ns: float = 0.0
    transfer_ns: float = 0.0
    bytes_per_ns: float = math.inf

    def copy_ns(self, size: int) -> float:
        """Of a tensor of so many bytes."""
        return self.transfer_ns + size / self.bytes_per_ns


@dataclass(frozen=True)
class Memory:
    """Bytes. `live` is the largest sum of simultaneously live tensors, the floor of `arena`.

    A `kept` arena holds something from one run to the next, such as a device's context.
    """

    arena: int
    align: int
    live: int
    weights: int
    kept: bool = False

    def allocated(self) -> NDArray[np.uint8]:
        """An arena, uninitialised."""
        return aligned(self.arena, self.align)


@dataclass(frozen=True)
class Taps:
    """Which tensors a library tells of while it runs.

    `tensors` are all activations by their numbers (qcomp/ir/numbering.py); those of `missing` lie
    in no memory, by instruction set: the kernel of another op computes them in registers.
    """

    tensors: tuple[TensorId, ...]
    missing: Mapping[str, tuple[TensorId, ...]]


@dataclass(frozen=True)
class Artifact:
    """Code for one model on one target.

    `files` are what is linked (relocatable objects: code, and data that they share), `sources` what
    programs are compiled with (NAME.h); both by file name, which begins with `name`. `notes` tell
    the user what was decided. `taps` are those of a library that has some. A library of several
    `lengths`, from the largest to the smallest, has a plan for each, and this is number `plan`;
    `padding` is how others are made to fit.
    """

    name: str
    target: str
    files: Mapping[str, bytes]
    sources: Mapping[str, str]
    requires: Requirements
    memory: Memory
    notes: tuple[str, ...] = field(default=(), compare=False)
    taps: Taps | None = None
    lengths: tuple[int, ...] = ()
    plan: int = 0
    padding: Padding | None = None

    @property
    def run(self) -> str:
        """The function that runs it, behind the name and an underscore."""
        return f"run_{self.lengths[self.plan]}" if self.plan else "run"

    @property
    def stem(self) -> str:
        """What the names of files of this plan begin with."""
        return f"{self.name}.{self.lengths[self.plan]}" if self.plan else self.name


@dataclass(frozen=True)
class Linked:
    """The libraries of an artifact in a directory; `shared` is None where nothing could link it."""

    static: str
    shared: str | None


@dataclass(frozen=True)
class Emulated:
    """What a program printed, and what it was built and run with."""

    output: str
    tools: str


class Sharing(Protocol):
    """How the runs of one loaded library share their work."""

    def among(self, threads: int) -> AbstractContextManager[None]:
        """Runs inside use `threads` threads."""
        ...

    def register(self, function: int | None, user: int | None) -> None:
        """Hand work to a parallel_for, by addresses; not while a run is in progress."""
        ...


@dataclass(frozen=True, eq=False)
class Rounded:
    """An array of float32 numbers beside that of their integers, `real / scale + zero_point`."""

    real: NDArray[np.float32]
    integers: NDArray[Any]
    scale: float
    zero_point: int


class Entry(Protocol):
    """An artifact's code in this process; arrays are contiguous, of the model's types."""

    @property
    def sharing(self) -> Sharing: ...

    def __call__(self, inputs: Arrays, outputs: Arrays, arena: NDArray[np.uint8]) -> None:
        """One run; TargetError where the code reports that it can't."""
        ...

    def bound(
        self, inputs: Arrays, outputs: Arrays, arena: NDArray[np.uint8]
    ) -> Callable[[], None]:
        """Such a run on these arrays, as often as it is called."""
        ...

    def between_floats(
        self, inputs: Sequence[Rounded], outputs: Sequence[Rounded], arena: NDArray[np.uint8]
    ) -> Callable[[], None] | None:
        """Such a run from real numbers to real numbers; None where the caller has to round."""
        ...

    def repeated(self, arrays: Arrays) -> Callable[[int], None]:
        """A function of a count that runs that often on inputs, outputs and the arena."""
        ...

    def set_isa(self, number: int) -> bool:
        """Whether later runs use instruction set `number` (from 1); 0 is the best here."""
        ...


Told = Callable[[int, bytes], None]
"""Is told of a tensor by its number, and its values as they lie in memory, dense."""


@runtime_checkable
class TappedEntry(Entry, Protocol):
    """Code with taps."""

    def run_tapped(
        self, inputs: Arrays, outputs: Arrays, arena: NDArray[np.uint8], tap: Told
    ) -> None:
        """One run, which tells of each tensor behind the op that computes it.

        The arena begins with the number of clipped values of each tensor, int32, afterwards.
        """
        ...


class Work(Protocol):
    """What a layer multiplies, reads and writes."""

    @property
    def macs(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def activation_bytes(self) -> int: ...


class Profile(Protocol):
    """A graph's code with a clock between its calls, on this machine."""

    @property
    def isa(self) -> str:
        """The instruction set that is timed: the one that the library uses here."""
        ...

    @property
    def peak_macs_per_ns(self) -> float:
        """The most that one thread multiplies and adds by vectors."""
        ...

    @property
    def sharing(self) -> Sharing: ...

    @property
    def calls(self) -> Sequence[TensorId]:
        """The op of each call, in order."""
        ...

    def run(self, arrays: Arrays) -> NDArray[np.int64]:
        """The clock before each call and after the last, on inputs and outputs."""
        ...

    def work(self, op: TensorId) -> Work: ...

    def fused(self, op: TensorId) -> str:
        """The kind of op that is computed in this one's code too, or nothing."""
        ...

    def bounds(self, op: TensorId) -> Mapping[str, float]:
        """The least microseconds that the op could take, by what holds it back: estimates."""
        ...


class Runtime(Protocol):
    """What is done with the artifacts of a kind of target, whichever of them made it."""

    def lacking(self, requires: Requirements) -> str | None:
        """What keeps this machine from running such code, by name; None where it can."""
        ...

    def load(self, artifact: Artifact, graph: Graph, library: Path | None) -> Entry:
        """The code in this process: of the shared library, or else of the artifact's files.

        TargetError, before any of it runs, where this machine lacks something.
        """
        ...

    def profile(self, artifact: Artifact, graph: Graph) -> Profile:
        """The code by layers; TargetError as for `load`."""
        ...

    def layouts(self, artifact: Artifact, graph: Graph) -> Sequence[Layout]:
        """Of each instruction set, from the least to the most able; none where they are unknown."""
        ...

    def emulator(self, artifact: Artifact) -> Callable[[str], Emulated]:
        """Builds a C program with the artifact for its machine and runs it on an emulator of that.

        TargetError says what is missing, before, or what failed.
        """
        ...

    def link(self, artifact: Artifact, directory: Path) -> Linked:
        """Write the libraries into a directory."""
        ...

    def files(self, directory: Path, linked: Linked) -> Mapping[str, bytes]:
        """The artifact's files, out of its libraries; ValueError where these are damaged."""
        ...

    def check(self, artifact: Artifact, graph: Graph) -> None:
        """ValueError where the code is of another graph, or needs other memory, than it is said."""
        ...

    def thread_pool(self) -> Mapping[str, bytes]:
        """C sources that share a run among threads, by file name."""
        ...


class Target(Protocol):
    """Turns an integer graph into an artifact."""

    @property
    def name(self) -> str: ...

    @property
    def runtime(self) -> Runtime: ...

    @property
    def border(self) -> Border: ...

    def supports(self, graph: Graph, op: Op) -> str | None:
        """The reason why it does not take an op of the graph; None where it does."""
        ...

    def keeping(self, directory: Path) -> Target:
        """The same, but generated code is kept in a directory, and taken from there."""
        ...

    def emit(self, graph: Graph, name: str) -> Artifact:
        """`name` is a C identifier: the prefix of every symbol. TargetError where it can't."""
        ...

    def cost(self, macs: int, results: int, activation_bytes: int, bits: int) -> float:
        """Nanoseconds on one thread, roughly, of an op on activations of so many bits.

        results: numbers that it computes or moves one by one, where any of them has 16 bits.
        """
        ...

    def weight_bytes(self, shape: tuple[int, ...], groups: int, bits: int) -> int:
        """Of a layer's weights [O, ...], of 1 to 8 bits, and its parameters, in a library."""
        ...


@runtime_checkable
class Tappable(Target, Protocol):
    """A target whose libraries can tell of tensors while they run."""

    def tapped(self) -> Target:
        """With taps, and so with other code."""
        ...

    def otherwise(self) -> Mapping[str, Target]:
        """Targets of the same machine whose code is to do the same in another way, by name."""
        ...


@runtime_checkable
class Lengthwise(Target, Protocol):
    """A target whose libraries can have plans for several lengths on the same weights."""

    def emit_lengths(
        self, graphs: Mapping[int, Graph], name: str, padding: Padding | None = None
    ) -> Artifact:
        """As `emit`, of the graph of each length, the largest one first; `padding` is how lengths
        between are made to fit, where they may be.
        """
        ...


@runtime_checkable
class Tunable(Target, Protocol):
    """A target that can choose by measuring."""

    def tuned(self, graph: Graph, trials: int) -> Target:
        """With what is fastest for the graph on the device at hand, of so many trials."""
        ...

    def following(self, tiles: str) -> Target:
        """With the choices of a NAME.tiles.json, by its text; TargetError where it is none."""
        ...


def tunable(target: Target) -> Tunable:
    """TargetError for a target that has nothing to measure."""
    if not isinstance(target, Tunable):
        raise TargetError(f"{target.name} has nothing to tune; expected a device, such as opencl")
    return target


def tappable(target: Target) -> Tappable:
    """TargetError for a target whose libraries have no taps."""
    if not isinstance(target, Tappable):
        raise TargetError(f"{target.name} has no taps; expected one processor, such as native")
    return target


def lengthwise(target: Target) -> Lengthwise:
    """TargetError for a target whose libraries have one plan."""
    if not isinstance(target, Lengthwise):
        raise TargetError(
            f"{target.name} has one length in a library; expected a processor, such as native"
        )
    return target


def aligned(size: int, align: int) -> NDArray[np.uint8]:
    """Uninitialised memory."""
    raw = np.empty(size + align, np.uint8)
    start = -raw.ctypes.data % align
    return raw[start : start + size]
