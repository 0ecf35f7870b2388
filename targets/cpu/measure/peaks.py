"""What this machine reaches at most with an instruction set, measured: dots, epilogues, bytes.

Loops of machine code that do nothing else: dot products of registers, the epilogue on sums in the
first cache, loads of a buffer of some size, over and over. Each figure is the best of many.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence

from llvmlite import binding as llvm

from qcomp.quant.fixed_point import Form, Requantize
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I16,
    I32,
    Unsigned,
    Value,
    at,
    load,
    multiple,
    repeat,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.dot import DotProduct
from qcomp.targets.cpu.emit.dynamic_loop import trips
from qcomp.targets.cpu.emit.epilogue import Epilogue
from qcomp.targets.cpu.emit.narrow import BlockParameters
from qcomp.targets.cpu.emit.tile_products import EachStep, TileProducts
from qcomp.targets.cpu.emit.words import word
from qcomp.targets.cpu.isa import target_machine
from qcomp.targets.cpu.kernels.constants import header, header_bytes
from qcomp.targets.cpu.kernels.gemm import GROUP
from qcomp.targets.cpu.lower.graph import function_attributes
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.process.jit import aligned_arena
from qcomp.targets.cpu.program import Kernels
from qcomp.targets.cpu.storage import Storage

_SECONDS = 0.03  # of each measurement
_CALL_SECONDS = 300e-6  # so that the cost of a call from Python does not count
_SMALLEST, _LARGEST = 1 << 13, 1 << 26  # bytes that are read
_SUMS, _RESULTS = 1 << 12, 1 << 13  # where the epilogue's loop has them in memory


class Peaks:
    """Of one instruction set on this machine; each is measured when it is asked for first."""

    def __init__(self, isa: Isa) -> None:
        self._isa = isa
        self._memory = aligned_arena(_LARGEST)
        self._memory[:] = 0
        self._known: dict[tuple[str, object], float] = {}

    @property
    def macs_per_ns(self) -> float:
        """Multiply-accumulates of the vector dot product."""
        return self._best("dots", None, lambda b, *span: emit_dots(b, self._isa, *span))

    @property
    def tile_macs_per_ns(self) -> float:
        """Multiply-accumulates of AMX tiles, of an instruction set that has them."""
        tiles = self._isa.machine.tile_peak
        assert tiles is not None
        return self._best("tiles", None, tiles)

    def results_per_ns(self, form: Form) -> float:
        """Sums that are requantized and stored."""
        return self._best("epilogue", form, lambda b, *span: _epilogue(b, self._isa, form, *span))

    def bytes_per_ns(self, size: int) -> float:
        """Loads of a buffer of about that size, read again and again."""
        size = min(max(1 << max(size - 1, 1).bit_length(), _SMALLEST), _LARGEST)
        return self._best("read", size, lambda b, *span: _reads(b, self._isa, size, *span))

    def _best(self, kind: str, key: object, emit: Callable[..., float]) -> float:
        if (kind, key) not in self._known:
            self._known[kind, key] = self._measured(kind, emit)
        return self._known[kind, key]

    def _measured(self, kind: str, emit: Callable[..., float]) -> float:
        """`emit` returns how much is done in a trip of its loop."""
        work = 0.0

        def kernel(b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
            nonlocal work
            work = emit(b, pointers[0], begin, end)
            b.ret_void()

        module = ir.Module(kind, self._isa.platform)
        kernels = Kernels(module, "peak", function_attributes(self._isa))
        name = kernels.get(kind, (), [False], kernel, ranged=True)
        module.get_function(name).linkage = "external"
        machine = target_machine(self._isa.triple)
        code = machine.emit_object(llvm.parse_assembly(str(module)))
        jit = llvm.create_lljit_compiler()
        library = llvm.JITLibraryBuilder().add_object_img(code).export_symbol(name).link(jit, name)
        type = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
        run, address = type(library[name]), self._memory.ctypes.data
        return work / _least_ns(lambda trips: run(0, trips, address))


def _least_ns(run: Callable[[int], None]) -> float:
    """Nanoseconds of a trip, the least over calls of many trips."""
    trips = 1
    while (seconds := _seconds(run, trips)) < _CALL_SECONDS:
        trips *= 2
    end = time.perf_counter() + _SECONDS
    while time.perf_counter() < end:
        seconds = min(seconds, _seconds(run, trips))
    return seconds * 1e9 / trips


def _seconds(run: Callable[[int], None], trips: int) -> float:
    began = time.perf_counter()
    run(trips)
    return time.perf_counter() - began


def emit_dots(b: ir.IRBuilder, isa: Isa, memory: Value, begin: Value, end: Value) -> float:
    """As many sums as the registers hold, so that no dot product waits for another."""
    products = isa.machine.products
    if isinstance(products, EachStep):
        return _single_dots(b, isa, products.dot, memory, begin, end)
    return _tile_dots(b, isa, products, memory, begin, end)


def _single_dots(
    b: ir.IRBuilder, isa: Isa, dot: DotProduct, memory: Value, begin: Value, end: Value
) -> float:
    """Of one register of sums.

    Where weights are widened, products do not depend on the sum: they have their weights (already
    widened) from the first cache, lest they be taken out of the loop.
    """
    sums, rounds = isa.registers - 6, 4
    x, w = dot.same(b, memory, 1)[0], dot.weights(b, memory)
    widened = vector(I16, 2 * isa.lanes)

    def weights(page: Value, n: int) -> tuple[Value, ...]:
        if not dot.widens:
            return w
        step = isa.vector_bits // 8
        places = (step * (len(w) * n + part) % _SUMS for part in range(len(w)))
        return tuple(load(b, at(b, page, place), widened) for place in places)

    def trip(index: Value, values: Sequence[Value]) -> Sequence[Value]:
        page = at(b, memory, b.mul(b.and_(index, word(b, 1)), word(b, _SUMS)))
        for n in range(rounds):
            values = [dot.add(b, v, x, weights(page, n * sums + i)) for i, v in enumerate(values)]
        return values

    for v in trips(b, begin, end, [splat(I32, isa.lanes, 0)] * sums, trip):
        store(b, v, memory)
    return float(rounds * sums * GROUP * isa.lanes)


def _tile_dots(
    b: ir.IRBuilder, isa: Isa, products: TileProducts, memory: Value, begin: Value, end: Value
) -> float:
    """Weights come from the first cache, lest products that no sum enters leave the loop."""
    tiles, rounds, steps = (isa.registers - 8) // products.parts, 4, 2 if products.pairs else 1
    x = [products.same(b, [memory] * products.pixels, 1)[0]] * steps

    def trip(index: Value, values: Sequence[Value]) -> Sequence[Value]:
        page = at(b, memory, b.mul(b.and_(index, word(b, 1)), word(b, _SUMS)))
        result = list(values)
        for n in range(rounds):
            places = [at(b, page, 64 * (n * steps + k)) for k in range(steps)]
            w = [products.weights(b, place) for place in places]
            for first in range(0, len(result), products.parts):
                part = slice(first, first + products.parts)
                result[part] = products.add(b, result[part], x, w)
        return result

    start = [splat(I32, isa.lanes, 0)] * (tiles * products.parts)
    for v in trips(b, begin, end, start, trip):
        store(b, v, memory)
    group = isa.machine.gemms[0].packing.group
    return float(rounds * tiles * steps * group * products.pixels * isa.lanes)


def _epilogue(
    b: ir.IRBuilder, isa: Isa, form: Form, memory: Value, begin: Value, end: Value
) -> float:
    """Tiles of four pixels by four vectors of channels."""
    pixels, vectors, lanes = 4, 4, isa.lanes
    for n, constant in enumerate(header(Requantize(form, 0))):
        store(b, ir.Constant(I32, int(constant)), at(b, memory, 4 * n), 4)
    table_bytes = 4 * lanes * vectors
    tables = at(b, memory, header_bytes(lookup=False))
    for table, value in enumerate((0, 1 << 14, 8)):  # bias, multiplier, shift
        for v in range(vectors):
            place = at(b, tables, table * table_bytes + 4 * lanes * v)
            store(b, splat(I32, lanes, value), place)

    def trip(_: Value, values: Sequence[Value]) -> Sequence[Value]:
        block = BlockParameters(
            memory, tables, table_bytes, 4 * lanes, lanes,
            ceiling=False, lookup=False, clamped=not isa.machine.unclamped, rectified=False,
            repeated=1,
        )  # fmt: skip
        epilogue = Epilogue(isa, form, block, isa.machine.narrow)
        places = [
            [_SUMS + 4 * lanes * (vectors * p + v) for v in range(vectors)] for p in range(pixels)
        ]
        sums = [[load(b, at(b, memory, o), vector(I32, lanes)) for o in pixel] for pixel in places]
        to = [at(b, memory, _RESULTS + lanes * vectors * p) for p in range(pixels)]
        biased = isa.machine.storage is Storage.BIASED
        stored = [Unsigned(p) if biased else p for p in to]
        epilogue.store(b, sums, stored, vectors * lanes)
        return values

    trips(b, begin, end, (), trip)
    return float(pixels * vectors * lanes)


def _reads(b: ir.IRBuilder, isa: Isa, size: int, memory: Value, begin: Value, end: Value) -> float:
    """Eight vectors at a time."""
    together, step = 8, isa.vector_bits // 8
    zero = splat(I32, isa.lanes, 0)

    def trip(_: Value, values: Sequence[Value]) -> Sequence[Value]:
        def some(n: Value | int, values: Sequence[Value]) -> Sequence[Value]:
            line = at(b, memory, multiple(b, n, together * step))
            loads = [load(b, at(b, line, k * step), zero.type, step) for k in range(together)]
            return [b.or_(v, x) for v, x in zip(values, loads, strict=True)]

        return repeat(b, size // (together * step), values, some, "read")

    for v in trips(b, begin, end, [zero] * together, trip):
        store(b, v, memory)
    return float(size)
