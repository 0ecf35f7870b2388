"""A target of one's own: it writes the graph as text, and computes it by the numpy specification.

A device would translate the graph in `emit`, and start its program in `Entry.__call__`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import qcomp
from qcomp.errors import TargetError
from qcomp.extensions import TARGETS
from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.targets.base import (
    Arrays,
    Artifact,
    Border,
    Emulated,
    Linked,
    Memory,
    Profile,
    Requirements,
    Rounded,
)

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class OneThread:
    """Runs that share no work."""

    def among(self, threads: int) -> AbstractContextManager[None]:
        return nullcontext()

    def register(self, function: int | None, user: int | None) -> None: ...


@dataclass(frozen=True)
class Evaluated:
    """The network in this process."""

    graph: Graph
    sharing: OneThread

    def __call__(self, inputs: Arrays, outputs: Arrays, arena: NDArray[np.uint8]) -> None:
        results = evaluate(self.graph, dict(zip(self.graph.inputs, inputs, strict=True)))
        for name, output in zip(self.graph.outputs, outputs, strict=True):
            output[...] = results[name]

    def bound(
        self, inputs: Arrays, outputs: Arrays, arena: NDArray[np.uint8]
    ) -> Callable[[], None]:
        return lambda: self(inputs, outputs, arena)

    def between_floats(
        self, inputs: list[Rounded], outputs: list[Rounded], arena: NDArray[np.uint8]
    ) -> Callable[[], None] | None:
        return None  # the caller rounds

    def repeated(self, arrays: Arrays) -> Callable[[int], None]:
        raise TargetError("acme.text has no code whose time could be taken")

    def set_isa(self, number: int) -> bool:
        return number == 0


@dataclass(frozen=True)
class TextRuntime:
    """What is done with the text."""

    def lacking(self, requires: Requirements) -> str | None:
        return None  # every machine can

    def load(self, artifact: Artifact, graph: Graph, library: Path | None) -> Evaluated:
        return Evaluated(graph, OneThread())

    def profile(self, artifact: Artifact, graph: Graph) -> Profile:
        raise TargetError("acme.text has no code whose time could be taken")

    def emulator(self, artifact: Artifact) -> Callable[[str], Emulated]:
        raise TargetError("acme.text has no functions of C")

    def link(self, artifact: Artifact, directory: Path) -> Linked:
        ((name, text),) = artifact.files.items()
        (directory / name).write_bytes(text)
        return Linked(name, None)

    def files(self, directory: Path, linked: Linked) -> Mapping[str, bytes]:
        return {linked.static: (directory / linked.static).read_bytes()}

    def check(self, artifact: Artifact, graph: Graph) -> None:
        (text,) = artifact.files.values()
        if text.decode() != str(graph):
            raise ValueError("the text is of another graph")

    def thread_pool(self) -> Mapping[str, bytes]:
        return {}


@dataclass(frozen=True)
class TextTarget:
    """Takes every op of the integer form."""

    name: str = "acme.text"
    border: Border = field(default_factory=Border)
    runtime: TextRuntime = field(default_factory=TextRuntime)

    def supports(self, graph: Graph, op: Op) -> str | None:
        return None

    def keeping(self, directory: Path) -> TextTarget:
        return self  # there is no code that takes time to generate

    def emit(self, graph: Graph, name: str) -> Artifact:
        weights = sum(t.data.nbytes for t in graph.tensors() if t.data is not None)
        return Artifact(
            name=name,
            target=self.name,
            files={f"{name}.program.txt": str(graph).encode()},
            sources={},
            requires=Requirements("any", {}, ()),
            memory=Memory(arena=64, align=64, live=0, weights=weights),
        )

    def cost(self, macs: int, results: int, activation_bytes: int, bits: int) -> float:
        return float(macs + results)

    def weight_bytes(self, shape: tuple[int, ...], groups: int, bits: int) -> int:
        return int(np.prod(shape))


def main() -> None:
    TARGETS.add("acme.text", TextTarget)  # a package has an entry point instead
    data = HERE / "digits_calibration.npz"
    net = qcomp.compile(HERE / "digits.onnx", "acme.text", calibration=data, recipe="fast")
    again = qcomp.load(net.save("build/text"))
    native = qcomp.compile(HERE / "digits.onnx", calibration=data, recipe="fast")
    with np.load(HERE / "digits_test.npz") as test:
        images = test["images"][:20]
    np.testing.assert_array_equal(again(images), native(images))
    print("acme.text and native agree in every bit")


if __name__ == "__main__":
    main()
