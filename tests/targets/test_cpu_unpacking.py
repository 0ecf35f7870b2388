"""Weights of few bits that are unpacked to the stack, once for many pixels, give the same bits."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import QConv2d
from qcomp.quant.fixed_point import Form
from qcomp.targets.base import aligned
from qcomp.targets.cpu.emit.gemm_vectors import VectorGemm, VectorGemms
from qcomp.targets.cpu.isa import AARCH64_DOTPROD, AVX512_VNNI, SSE41
from qcomp.targets.cpu.kernels.axis import Axis
from qcomp.targets.cpu.kernels.codes import SCRATCH
from qcomp.targets.cpu.kernels.gemm import BY_FOURS, GemmSpec
from qcomp.targets.cpu.library.module import build_objects
from qcomp.targets.cpu.library.parallel import Splitting
from qcomp.targets.cpu.lower.graph import lower_graph
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.process.jit import load_objects
from qcomp.targets.memory import ALIGN
from tests.targets.test_cpu_weight_bits import few, layer

EVERYTHING = Splitting(least_ns=0.0, item_ns=0.0)  # one unit an item
TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32)
PARALLEL_FOR = ctypes.CFUNCTYPE(None, ctypes.c_void_p, TASK, ctypes.c_void_p, ctypes.c_int32)

# Input, outputs, kernel and window; each takes several tiles on every machine.
SHAPES: list[tuple[tuple[int, ...], int, tuple[int, int], dict[str, Any]]] = [
    ((1, 12, 30, 24), 33, (3, 3), {"padding": (1, 1, 1, 1)}),
    ((2, 9, 31, 36), 20, (1, 1), {"stride": (1, 2)}),  # nine steps: a row is not full
    ((1, 11, 40, 17), 40, (3, 2), {"dilation": (2, 1)}),
    ((1, 15, 40, 8), 24, (3, 2), {"dilation": (1, 2)}),  # segments in segments
    ((1, 12, 40, 3), 8, (3, 3), {"padding": (1, 0, 1, 1)}),  # ends that are joined
    ((1, 8, 40, 24), 24, (3, 3), {"groups": 6}),  # lanes are mixed
    ((1, 9, 40, 64), 96, (2, 1), {"groups": 2}),
]


@dataclass(frozen=True)
class OnStack(VectorGemms):
    """Every layer of few bits is unpacked to the stack, in as many parts as may be."""

    def kernel(self, spec: GemmSpec, isa: Isa) -> VectorGemm:
        *_, last = self.ways(spec, isa)
        assert last.parts
        return last


def unpacking(isa: Isa, scratch: int) -> Isa:
    """With so many bytes of the stack for it."""
    (vectors,) = (family for family in isa.machine.gemms if isinstance(family, VectorGemms))
    family = OnStack(vectors.packing, replace(vectors.costs, scratch=scratch))
    return replace(isa, machine=replace(isa.machine, gemms=(family,)))


def convolution(kit: Any, n: int, bits: int) -> tuple[Graph, Any]:
    shape, outputs, kernel, window = SHAPES[n]
    weight = few((outputs, *kernel, shape[3] // window.get("groups", 1)), bits)
    return layer(kit, QConv2d, weight, kit.i8(*shape), Form.NARROW, **window)  # type: ignore[no-any-return]


@pytest.mark.parametrize("n", range(len(SHAPES)))
def test_layers_that_are_unpacked_to_the_stack_are_exact(kit: Any, isa: Isa, n: int) -> None:
    """Some scratch is for all tiles at once, some for a few."""
    bits = (4, 2, 1)[n % 3]
    for scratch in (SCRATCH, 10 << 10):
        kit.check_graph(*convolution(kit, n, bits), [unpacking(isa, scratch)])


def shared_at_random(graph: Graph, isa: Isa, inputs: Sequence[Any]) -> dict[str, Any]:
    """The outputs, where a host gives out the units in ranges of any length, in any order."""
    program = lower_graph(graph, isa, "net")
    objects = build_objects([program], "net", EVERYTHING).values()
    entry = load_objects(objects, "net", len(graph.inputs) + len(graph.outputs) + 1)
    random = np.random.default_rng(2)

    def parallel_for(user: int | None, task: Any, context: int, count: int) -> None:
        edges = [0, *(np.flatnonzero(random.random(count - 1) < 0.3) + 1).tolist(), count]
        assert count >= 4
        for i in random.permutation(len(edges) - 1):
            task(context, edges[i], edges[i + 1])

    host = PARALLEL_FOR(parallel_for)
    entry.sharing.register(ctypes.cast(host, ctypes.c_void_p).value, 0)
    types = {name: graph.type(id) for name, id in graph.outputs.items()}
    outputs = {name: np.empty(t.shape, t.dtype.numpy) for name, t in types.items()}
    entry(list(inputs), list(outputs.values()), aligned(program.memory.arena_bytes, ALIGN))
    return outputs


@pytest.mark.parametrize("n", [0, 1, 6])
def test_any_range_of_tiles_gives_the_same_bits(kit: Any, isa: Isa, n: int) -> None:
    """Few tiles are computed from weights as they lie."""
    if kit.emulated is not None:
        pytest.skip("the host that shares is a function of this process")
    graph, inputs = convolution(kit, n, 4)
    for scratch in (SCRATCH, 10 << 10):
        outputs = shared_at_random(graph, unpacking(isa, scratch), list(inputs.values()))
        for name, expected in evaluate(graph, inputs).items():
            assert_array_equal(outputs[name], expected)


def spec(size: int, inputs: int, outputs: int, kernel: int, **fields: Any) -> GemmSpec:
    """A convolution of square images."""
    one, pixel = Axis(1, 0, 0), kernel * inputs
    segments = ((kernel, 100 * inputs),) if kernel > 1 else ()
    row, column = Axis(size, 100 * inputs, size * outputs), Axis(size, inputs, outputs)
    plain = GemmSpec(one, one, row, column, segments, pixel, outputs, Form.NARROW, BY_FOURS)
    return replace(plain, **{"weight_bits": 4, **fields})


def parts(isa: Isa, spec: GemmSpec) -> int:
    (family,) = isa.machine.gemms
    kernel = family.kernel(spec, isa)
    assert isinstance(kernel, VectorGemm)
    return kernel.parts


@pytest.mark.parametrize("isa_", [SSE41, AVX512_VNNI], ids=lambda isa: isa.name)
def test_weights_that_serve_many_pixels_are_unpacked_once(isa_: Isa) -> None:
    chosen = partial(parts, isa_)
    assert chosen(spec(56, 64, 64, 3)) == 1
    assert chosen(spec(28, 256, 256, 1)) == 1
    assert chosen(spec(28, 256, 256, 1, weight_bits=8)) == 0
    assert chosen(spec(1, 1024, 1000, 1)) == 0


def test_weights_that_the_stack_does_not_hold_are_unpacked_in_parts() -> None:
    assert parts(AVX512_VNNI, spec(7, 512, 512, 3)) == 3
    assert parts(AVX512_VNNI, spec(7, 8192, 64, 1)) == 0
    assert parts(AARCH64_DOTPROD, spec(56, 64, 64, 3)) == 0


def test_the_stack_that_kernels_take_is_bounded() -> None:
    (family,) = AVX512_VNNI.machine.gemms
    assert isinstance(family, VectorGemms)
    for size, inputs, outputs, kernel in ((56, 64, 64, 3), (14, 256, 256, 3), (28, 512, 64, 3)):
        _, *unpacked = family.ways(spec(size, inputs, outputs, kernel), AVX512_VNNI)
        assert unpacked
        assert all(way.scratch_bytes <= SCRATCH for way in unpacked)
