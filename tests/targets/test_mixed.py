"""Two targets compute one network: each its own ops, the tensors between them in the arena."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import qcomp
from qcomp.errors import TargetError
from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import MaxPool2d, Op, QAdd
from qcomp.ir.parse import parse
from qcomp.targets.base import (
    Arrays,
    Artifact,
    Border,
    Entry,
    Linked,
    Memory,
    Profile,
    Requirements,
)
from qcomp.targets.catalog import TARGETS, Listed
from qcomp.targets.cpu.isa import AVX2, SSE41
from qcomp.targets.cpu.process.host import native
from qcomp.targets.cpu.runtime import CpuRuntime
from qcomp.targets.cpu.target import CpuTarget
from qcomp.targets.mixed.plan import plan_of
from qcomp.targets.mixed.runtime import MixedRuntime
from qcomp.targets.mixed.target import MixedTarget, together
from tests.targets.conftest import Kit
from tests.targets.test_cpu_residual import block


@dataclass(frozen=True)
class OneThread:
    """Runs that share no work."""

    def among(self, threads: int) -> AbstractContextManager[None]:
        return nullcontext()

    def register(self, function: int | None, user: int | None) -> None:
        pass


@dataclass(frozen=True)
class Evaluated:
    """A graph that is computed by the specification."""

    graph: Graph
    sharing = OneThread()

    def __call__(self, inputs: Arrays, outputs: Arrays, arena: NDArray[np.uint8]) -> None:
        assert arena.ctypes.data % 64 == 0
        arena[:] = 0x5A
        values = evaluate(self.graph, dict(zip(self.graph.inputs, inputs, strict=True)))
        for name, output in zip(self.graph.outputs, outputs, strict=True):
            output[...] = values[name]

    def bound(
        self, inputs: Arrays, outputs: Arrays, arena: NDArray[np.uint8]
    ) -> Callable[[], None]:
        raise NotImplementedError

    def repeated(self, arrays: Arrays) -> Callable[[int], None]:
        raise NotImplementedError

    def set_isa(self, number: int) -> bool:
        raise AssertionError("it has no code for instruction sets")


class ToyRuntime:
    """Reads the text again."""

    def lacking(self, requires: Requirements) -> str | None:
        return None

    def load(self, artifact: Artifact, graph: Graph, library: Path | None) -> Entry:
        (text,) = artifact.files.values()
        return Evaluated(parse(text.decode()))

    def profile(self, artifact: Artifact, graph: Graph) -> Profile:
        raise NotImplementedError

    def link(self, artifact: Artifact, directory: Path) -> Linked:
        ((name, text),) = artifact.files.items()
        (directory / name).write_bytes(text)
        return Linked(name, None)

    def files(self, directory: Path, linked: Linked) -> Mapping[str, bytes]:
        return {linked.static: (directory / linked.static).read_bytes()}

    def check(self, artifact: Artifact, graph: Graph) -> None:
        """Its files are the graph's text, which has no sizes."""

    def thread_pool(self) -> Mapping[str, bytes]:
        return {}


@dataclass(frozen=True)
class Toy:
    """Takes a kind of op that has no constants, and writes the graph as text."""

    takes: tuple[type[Op], ...]
    align: int = 64
    name: str = "toy"
    kept: Path | None = None
    border: Border = field(default_factory=Border)
    runtime = ToyRuntime()

    def supports(self, graph: Graph, op: Op) -> str | None:
        return None if isinstance(op, self.takes) else f"{op.mnemonic} is not for toys"

    def keeping(self, directory: Path) -> Toy:
        return replace(self, kept=directory)

    def emit(self, graph: Graph, name: str) -> Artifact:
        return Artifact(
            name=name,
            target=self.name,
            files={f"{name}.graph.txt": str(graph).encode()},
            sources={},
            requires=Requirements(native().triple, {}, ("libtoy",)),
            memory=Memory(arena=100, align=self.align, live=7, weights=0),
        )

    def cost(self, macs: int, results: int, activation_bytes: int, bits: int) -> float:
        return 0.0

    def weight_bytes(self, shape: tuple[int, ...], groups: int, bits: int) -> int:
        raise NotImplementedError


TOY = Toy((MaxPool2d,))
CPU = CpuTarget("native", (native(),))


@pytest.fixture
def mixed(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a target that is listed as long as the test lasts."""
    listed = Listed(
        lambda: MixedTarget("toy+native", (TOY, CPU)),
        lambda: MixedRuntime({"toy": ToyRuntime(), "native": CpuRuntime()}),
    )
    monkeypatch.setitem(TARGETS, "toy+native", listed)  # type: ignore[arg-type]
    return "toy+native"


def model() -> onnx.ModelProto:
    """Pools between convolutions, one of them beside an op of the other target."""
    node = helper.make_node
    random = np.random.default_rng(0)
    nodes = [
        node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["b"]),
        node("MaxPool", ["b"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Conv", ["b", "w2"], ["d"], pads=[1, 1, 1, 1]),
        node("Add", ["c", "d"], ["e"]),
        node("MaxPool", ["e"], ["f"], kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["f"], ["y"]),
    ]
    weights = {
        "w1": random.normal(size=(8, 3, 3, 3)).astype(np.float32),
        "w2": random.normal(size=(8, 8, 3, 3)).astype(np.float32),
    }
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("y", "e")]
    tensors = [numpy_helper.from_array(a, n) for n, a in weights.items()]
    graph = helper.make_graph(nodes, "network", [x], outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def compiled(target: str) -> tuple[qcomp.CompiledNetwork, NDArray[np.float32]]:
    x = np.random.default_rng(1).normal(size=(3, 3, 8, 8)).astype(np.float32)
    samples = [sample[None] for sample in x]
    return qcomp.compile(model(), target, calibration=samples, recipe="fast", name="net"), x


def test_a_network_of_two_targets_gives_the_bits_of_the_specification(
    mixed: str, tmp_path: Path
) -> None:
    net, x = compiled(mixed)
    plan = plan_of(net.artifact)
    assert [step.target for step in plan.steps] == ["native", "toy", "native", "toy", "native"]
    assert plan.buffers
    assert net.sqnr_db_output is not None
    q = net.quantized(x)
    expected = net.specification_integer(q)
    assert_all_equal(net.run_integer(q), expected)
    net.save(tmp_path / "out", threads_pool=True)
    loaded = qcomp.load(tmp_path / "out")
    assert loaded.artifact == net.artifact
    assert_all_equal(loaded.run_integer(q), expected)
    assert loaded.isa == (native().name,)
    assert loaded.runnable_isas() == loaded.isa


def assert_all_equal(got: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    for one, other in zip(got, expected, strict=True):
        assert_array_equal(one, other)


def test_a_directory_has_what_each_part_needs(mixed: str, tmp_path: Path) -> None:
    net, _ = compiled(mixed)
    folder = net.save(tmp_path / "out")
    names = {file.name for file in folder.iterdir()}
    assert {"libnet_part0.a", "net_part0.h", "net_part1.graph.txt", "net.parts.json"} <= names
    assert "libnet.a" not in names
    manifest = json.loads((folder / "net.manifest.json").read_text())
    assert (manifest["run"], manifest["header"]) == (None, None)
    assert manifest["static_library"] == "net.parts.json"
    assert manifest["sources"] == ["net_part0.h", "net_part2.h", "net_part4.h"]
    assert manifest["system_libraries"] == ["libtoy"]


def residual(kit: Kit) -> tuple[Graph, Mapping[str, NDArray[np.int8]]]:
    """The sum goes to the toy, and is known by two names."""
    graph, inputs = block(kit, 3, 20)
    graph.outputs["again"] = graph.outputs["y"]
    return graph, inputs


ADDER = MixedTarget("mixed", (Toy((QAdd,)), CPU))


def test_an_output_of_two_names_is_written_twice(kit: Kit) -> None:
    graph, inputs = residual(kit)
    artifact = ADDER.emit(graph, "net")
    entry = ADDER.runtime.load(artifact, graph, None)
    expected = evaluate(graph, inputs)
    outputs = [np.zeros_like(expected[name]) for name in graph.outputs]
    arrays = [*inputs.values(), *outputs, artifact.memory.allocated()]
    entry.repeated(arrays)(2)
    for name, output in zip(graph.outputs, outputs, strict=True):
        assert_array_equal(output, expected[name])


def test_what_lives_at_the_same_time_does_not_overlap(kit: Kit) -> None:
    graph, _ = residual(kit)
    artifact = ADDER.emit(graph, "net")
    plan = plan_of(artifact)
    assert list(plan.buffers) == ["skip", "conv"]
    sizes = {id: graph.type(id).bytes for id in plan.buffers}
    for step in plan.steps:
        ranges = [(offset, offset + sizes[id]) for id, offset in plan.buffers.items()]
        ranges.append((step.arena, step.arena + step.memory.arena))
        ends = 0
        for begin, end in sorted(ranges):
            assert begin >= ends
            assert begin % 64 == 0
            ends = end
        assert ends <= artifact.memory.arena
    cpu = plan.steps[0].memory
    assert artifact.memory.live == max(cpu.live, 7) + sum(sizes.values())
    assert artifact.memory.weights == cpu.weights


def test_an_op_that_no_target_takes_is_refused_with_all_reasons(kit: Kit) -> None:
    graph, _ = residual(kit)
    toys = MixedTarget("toys", (TOY, replace(Toy((QAdd,)), name="adder")))
    op = graph.op("conv")
    assert ADDER.supports(graph, op) is None
    assert toys.supports(graph, op) == (
        "toy: q_conv2d is not for toys; adder: q_conv2d is not for toys"
    )
    with pytest.raises(TargetError, match="no target takes:"):
        toys.emit(graph, "net")


def test_a_part_whose_arena_needs_more_than_the_whole_gives_is_refused(kit: Kit) -> None:
    graph, _ = residual(kit)
    target = MixedTarget("mixed", (Toy((QAdd,), align=128), CPU))
    with pytest.raises(TargetError, match="net_part1 of toy needs an arena aligned to 128 bytes"):
        target.emit(graph, "net")


def test_every_target_keeps_its_code_in_the_directory(kit: Kit, tmp_path: Path) -> None:
    graph, _ = residual(kit)
    kept = ADDER.keeping(tmp_path)
    assert [isinstance(t, Toy) and t.kept for t in kept.targets] == [tmp_path, False]
    assert kept.emit(graph, "net") == ADDER.emit(graph, "net")
    assert [*tmp_path.iterdir()]


def test_times_by_layers_are_refused_by_name(kit: Kit) -> None:
    graph, _ = residual(kit)
    with pytest.raises(TargetError, match="net is of toy, native; times by layers are of one"):
        ADDER.runtime.profile(ADDER.emit(graph, "net"), graph)


def needs(*isas: Any, triple: str = "x86_64-unknown-linux-gnu") -> Requirements:
    return Requirements(triple, {isa.name: isa.required for isa in isas}, ("libm",))


def test_parts_of_one_library_are_for_one_kind_of_machine() -> None:
    assert together([needs(), needs(SSE41), needs(SSE41)]) == needs(SSE41)
    with pytest.raises(TargetError, match="expected one kind of machine"):
        together([needs(SSE41), needs(triple="aarch64-unknown-linux-gnu")])
    with pytest.raises(TargetError, match=r"sse4.1 beside sse4.1, avx2; expected the same"):
        together([needs(SSE41), needs(SSE41, AVX2)])


def test_what_the_code_of_a_part_lacks_is_what_the_whole_lacks() -> None:
    elsewhere = dataclasses.replace(needs(SSE41), triple="sparc-linux")
    says = ADDER.runtime.lacking(elsewhere)
    assert says is not None
    assert says.startswith("code for sparc-linux can't run on")
    assert ADDER.runtime.lacking(Requirements(native().triple, {}, ())) is None
