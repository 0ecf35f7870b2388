"""Runs integer graphs on every instruction set this machine has and compares with `evaluate`."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import pytest
from emulated import COUNTED, Emulated
from kept import kept_objects
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from on_tvm import check_on

from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op, QConv2d, QSoftmax
from qcomp.ir.tensor import DType, TensorId, TensorType
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.qparams import QParams, softmax_qparams
from qcomp.targets.base import Artifact, Memory, Requirements
from qcomp.targets.catalog import target
from qcomp.targets.cpu.library.codegen import Generate
from qcomp.targets.cpu.library.module import build_objects
from qcomp.targets.cpu.library.parallel import Splitting
from qcomp.targets.cpu.lower.graph import lower_graph
from qcomp.targets.cpu.lower.schedule import CHAINING, Chaining
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.process.host import native, this_host
from qcomp.targets.cpu.process.jit import load_objects
from qcomp.targets.cpu.target import CpuTarget, without_collections
from qcomp.targets.memory import ALIGN

Array = NDArray[Any]
MakeOp = Callable[..., Op]
Case = TypeVar("Case")


# The name of a target with one instruction set, of another machine, which all tests are to run on.
EMULATED = os.environ.get("QCOMP_EMULATED", "")


def host_isas() -> list[Isa]:
    """Those that this machine runs, from the portable baseline on; `native` is the last.

    Or the one that is emulated.
    """
    if EMULATED:
        return [isa_of(EMULATED)]
    last = native()
    return [*(isa for isa in this_host().runs() if isa != last), last]


def isa_of(name: str) -> Isa:
    """The only set of a target."""
    cpu = target(name)
    assert isinstance(cpu, CpuTarget)
    (isa,) = cpu.isas
    return isa


class Guarded:
    """An array that ends (or begins) where memory ends: one byte beyond it is a crash."""

    def __init__(self, content: Array, *, at_end: bool) -> None:
        page = mmap.PAGESIZE
        pages = -(-max(content.nbytes, 1) // page)
        self._map = mmap.mmap(-1, (pages + 2) * page)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        for guard in (base, base + (pages + 1) * page):
            assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(guard), page, 0) == 0
        start = page + (pages * page - content.nbytes if at_end else 0)
        self.array: Array = np.frombuffer(self._map, content.dtype, content.size, start).reshape(
            content.shape
        )
        self.array[...] = content


@dataclass(frozen=True)
class Fixed:
    """An operand that is a constant of the graph."""

    array: Array


@dataclass(frozen=True)
class Kit:
    """What the tests of the targets are written with; each graph runs on `variety` machines."""

    variety: int
    generate: Generate
    emulated: Emulated | None = None
    fixed = Fixed
    isas: ClassVar[Sequence[Isa]] = tuple(host_isas())

    def one_op(
        self, make: MakeOp, *operands: Array | Fixed, zero_point: int = 0, borders: bool = False
    ) -> tuple[Graph, dict[str, Array]]:
        """A graph of one op and the values of its inputs; all i8 activations have one zero point.

        Those of 16 bits have none.

        With `borders`, padded convolutions read every image too, so that it has a halo in memory.
        """
        graph, inputs, ids = Graph("one"), {}, []
        for n, operand in enumerate(operands):
            if isinstance(operand, Fixed):
                ids.append(graph.add_constant(f"c{n}", operand.array))
            else:
                type = TensorType(DType.of(operand.dtype), operand.shape)
                ids.append(graph.add_input(f"x{n}", type))
                inputs[f"x{n}"] = operand
        result = graph.add_op(make(inputs=tuple(ids), output="y"))
        graph.outputs["y"] = result
        images = [t for t in (*graph.inputs.values(), result) if _is_image(graph, t)]
        for n, image in enumerate(images if borders else ()):
            self._reader(graph, image, n, zero_point)
        for tensor in graph.tensors():
            if not tensor.is_constant and _is_activation(graph, tensor.id):
                qparams = _qparams(graph, tensor.id, zero_point)
                graph.update_tensor(replace(tensor, qparams=qparams))
        return graph, inputs

    def _reader(self, graph: Graph, image: TensorId, n: int, zero_point: int) -> None:
        """Sums of each pixel's channels, 16 equal ones, with padding that differs on each side.

        Of a 1x1 convolution to whole panels of channels the code is small.
        """
        channels = graph.type(image).shape[3]
        weight = np.ones((16, 1, 1, channels), np.int8)
        is_i8 = graph.type(image).dtype is DType.I8
        scaling = (300, 2) if is_i8 else (2**30, 42)
        parameters = [np.full(16, v, np.int32) for v in (5, *scaling)]
        constants = [graph.add_constant("k", a) for a in (weight, *parameters)]
        reader = QConv2d(
            inputs=(image, *constants),
            output=f"read{n}",
            x_zero_point=_qparams(graph, image, zero_point).zero_point,
            requantize=Requantize(Form.NARROW if is_i8 else Form.WIDE, zero_point),
            padding=(1, 2, 3, 1),
        )
        graph.outputs[f"read{n}"] = graph.add_op(reader)

    def compiled(
        self, graph: Graph, isa: Isa, chaining: Chaining = CHAINING
    ) -> Callable[..., dict[str, Array]]:
        """The generated code: run(inputs, at_end) -> outputs; all memory lies at a border."""
        with without_collections():
            program = lower_graph(graph, isa, "net", chaining=chaining)
            objects = build_objects([program], "net", generate=self.generate).values()
        entry = load_objects(objects, "net", len(graph.inputs) + len(graph.outputs) + 1)
        junk = np.random.default_rng(1).integers(0, 256, program.memory.arena_bytes, np.uint8)
        types = {name: graph.type(id) for name, id in graph.outputs.items()}

        def run(inputs: Mapping[str, Array], at_end: bool = True) -> dict[str, Array]:
            feeds = [Guarded(inputs[name], at_end=at_end).array for name in graph.inputs]
            results = {
                name: Guarded(
                    np.full(t.shape, 0x5A5A5A5A).astype(t.dtype.numpy), at_end=at_end
                ).array
                for name, t in types.items()
            }
            entry(feeds, list(results.values()), Guarded(junk, at_end=at_end).array)
            for feed, name in zip(feeds, graph.inputs, strict=True):
                assert_array_equal(feed, inputs[name], err_msg="an input was written to")
            return results

        return run

    def _artifact(self, graph: Graph, isa: Isa, chaining: Chaining) -> Artifact:
        """Of which everything that can be shared by threads is."""
        with without_collections():
            program = lower_graph(graph, isa, "net", chaining=chaining)
            everything = Splitting(least_ns=0.0, item_ns=0.0)
            files = build_objects([program], "net", everything, self.generate)
        memory = Memory(program.memory.arena_bytes, ALIGN, program.live_bytes, program.data.size)
        return Artifact("net", isa.name, files, {}, Requirements(isa.triple, {}, ()), memory)

    def check_graph(
        self,
        graph: Graph,
        inputs: Mapping[str, Array],
        isas: Sequence[Isa] | None = None,
        chaining: Chaining = CHAINING,
    ) -> None:
        """The generated code equals the specification in every bit.

        Without `isas`, on instruction sets that the graph's text chooses, to save time.
        """
        expected = evaluate(graph, inputs)
        for isa in isas or self._chosen(str(graph), self.variety):
            if self.emulated is not None and not this_host().is_of(isa.triple):
                artifact = self._artifact(graph, isa, chaining)
                self.emulated.check(artifact, [inputs[n] for n in graph.inputs], expected)
                continue
            run = self.compiled(graph, isa, chaining)
            for at_end in (True, False):
                for name, value in run(inputs, at_end).items():
                    message = f"{name} on {isa.name}\n{graph}"
                    assert_array_equal(value, expected[name], err_msg=message)

    def _chosen(self, text: str, count: int) -> list[Isa]:
        """`count` instruction sets, or all that there are."""
        sets = list(itertools.combinations(self.isas, min(count, len(self.isas))))
        return list(sets[zlib.crc32(text.encode()) % len(sets)])

    def check(
        self,
        make: MakeOp,
        *operands: Array | Fixed,
        zero_point: int = 0,
        borders: bool = False,
        isas: Sequence[Isa] | None = None,
    ) -> None:
        """One op alone; with `borders`, on another ISA also between tensors that have a halo."""
        alone, inputs = self.one_op(make, *operands, zero_point=zero_point)
        graphs = 2 if borders else 1
        first, *others = isas or self._chosen(str(alone), max(graphs, self.variety))
        if not borders:
            self.check_graph(alone, inputs, [first, *others])
            return
        self.check_graph(alone, inputs, [first])
        between = self.one_op(make, *operands, zero_point=zero_point, borders=True)
        self.check_graph(*between, others or [first])

    def some(self, cases: Sequence[Case], n: int) -> Sequence[Case]:
        """All cases with --slow; else the one that a test's number `n` chooses."""
        return cases if self.variety > 1 else [cases[n % len(cases)]]

    def i8(self, *shape: int, seed: int = 0) -> NDArray[np.int8]:
        """Every value is possible; one in four is an extreme."""
        return _values(np.int8, shape, seed)

    def i16(self, *shape: int, seed: int = 0) -> NDArray[np.int16]:
        """The same of 16 bits."""
        return _values(np.int16, shape, seed)


def _values(dtype: Any, shape: tuple[int, ...], seed: int) -> Array:
    random = np.random.default_rng([seed, *shape])
    limits = np.iinfo(dtype)
    values = random.integers(limits.min, limits.max + 1, shape, dtype)
    extremes = random.choice(np.array([limits.min, limits.max], dtype), shape)
    return np.where(random.random(shape) < 0.25, extremes, values).astype(dtype)


def _qparams(graph: Graph, tensor: TensorId, zero_point: int) -> QParams:
    """One scale for all of a type, but for the fixed parameters of a softmax."""
    is_i8, producer = graph.type(tensor).dtype is DType.I8, graph.producer(tensor)
    if isinstance(producer, QSoftmax):
        return softmax_qparams(producer.bits, producer.finer)
    if is_i8:
        return QParams(0.5, zero_point)
    bits = 8 * graph.type(tensor).dtype.bytes
    return QParams(0.5, 0, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def _is_activation(graph: Graph, id: TensorId) -> bool:
    """Of 32 bits what is read, and what an op gives that says so; others are indices."""
    producer, dtype = graph.producer(id), graph.type(id).dtype
    if dtype is not DType.I32 or producer is None:
        return dtype in (DType.I8, DType.I16, DType.I32)
    q = getattr(producer, "requantize", producer)
    return producer.copies_integers or getattr(q, "bits", 0) == 32


def _is_image(graph: Graph, tensor: TensorId) -> bool:
    type = graph.type(tensor)
    return type.rank == 4 and type.dtype in (DType.I8, DType.I16)


@dataclass(frozen=True)
class KitOnTvm(Kit):
    """The same graphs on a target of TVM."""

    target: str = "tvm-llvm"

    def check_graph(
        self,
        graph: Graph,
        inputs: Mapping[str, Array],
        isas: Sequence[Isa] | None = None,
        chaining: Chaining = CHAINING,
    ) -> None:
        check_on(self.target, graph, inputs)


@pytest.fixture(scope="session")
def kit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    """One instruction set for each graph, as the graphs are many; two with --slow."""
    variety = 2 if request.config.getoption("--slow") else 1
    if on_tvm := str(request.config.getoption("--tvm")):
        yield KitOnTvm(1, kept_objects(), on_tvm)
        return
    if not EMULATED:
        yield Kit(variety, kept_objects())
        return
    folder = tmp_path_factory.mktemp("emulated")
    emulated = Emulated.of(EMULATED, isa_of(EMULATED).triple, folder)
    request.config.stash.setdefault(COUNTED, {})[f"operators, {EMULATED}"] = emulated.counts
    yield Kit(variety, kept_objects(), emulated)
    emulated.close()


@pytest.fixture(scope="session")
def arm_gcc() -> str:
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    if compiler is None or shutil.which("qemu-aarch64") is None:
        pytest.skip("needs aarch64-linux-gnu-gcc and qemu-aarch64")
    return compiler


@pytest.fixture(params=host_isas(), ids=lambda isa: isa.name)
def isa(request: pytest.FixtureRequest) -> Isa:
    """Each instruction set in turn."""
    value: Isa = request.param
    return value
