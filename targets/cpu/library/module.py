"""The entry point, the tensor descriptions and the data: from a program to object files."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.ir.numbering import activations
from qcomp.ir.tensor import DType, Tensor, TensorId
from qcomp.targets.base import ABI
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I8, I32, PTR, Value, at, load
from qcomp.targets.cpu.emit.words import word, word_type
from qcomp.targets.cpu.library.codegen import Generate, object_code
from qcomp.targets.cpu.library.dispatch import (
    STATUS_BAD_ARENA,
    STATUS_BAD_INPUT,
    STATUS_OK,
    add_dispatch,
    add_init,
    asks_processor,
)
from qcomp.targets.cpu.library.division import add_division
from qcomp.targets.cpu.library.frame import Frame
from qcomp.targets.cpu.library.index_checks import emit_check
from qcomp.targets.cpu.library.objects import data_object
from qcomp.targets.cpu.library.parallel import SPLITTING, Caller, Splitting, add_registration
from qcomp.targets.cpu.library.taps import RUN_TAPPED, TENSORS, add_untapped_run
from qcomp.targets.cpu.library.windows import follow_windows
from qcomp.targets.cpu.platform import ObjectFormat, expect_supported
from qcomp.targets.cpu.program import Program
from qcomp.targets.identity import MARK_BYTES, Identity
from qcomp.targets.memory import ALIGN

NAME_BYTES = 64
MAX_RANK = 8

# The values of qcomp_type in the header.
TYPE_CODES = {DType.I8: 1, DType.I32: 2, DType.I16: 3}


def build_objects(
    programs: Sequence[Program],
    name: str,
    splitting: Splitting = SPLITTING,
    generate: Generate = object_code,
    shorter: Mapping[int, Sequence[Program]] | None = None,
) -> dict[str, bytes]:
    """Relocatable files by name: NAME_run, NAME_inputs, NAME_outputs, NAME_set_parallel_for,
    NAME_init, NAME_abi, NAME_sizes; with taps NAME_run_tapped, NAME_tensors; and hidden, NAME_data.

    Several programs, of one module, are the variants of a library, from the least to the most able
    instruction set; see dispatch.py. `shorter` are those of other lengths, of the same module and
    data, from the largest to the smallest: NAME_run_L, and a record of its own behind that of
    NAME_sizes.
    """
    others = shorter or {}
    first, module = programs[0], programs[0].module
    expect_supported(first.isa.platform)
    add_registration(module, name)
    follow_windows(module)
    add_division(module)
    isas = [program.isa for program in programs]
    run = f"{name}_{RUN_TAPPED}" if first.tapped else f"{name}_run"
    runs = {run: programs} | {f"{name}_run_{n}": given for n, given in others.items()}
    if asks_processor(isas):
        variants = {
            symbol: [_add_variant(program, symbol, name, splitting) for program in given]
            for symbol, given in runs.items()
        }
        add_dispatch(module, name, isas, variants)
    else:
        for symbol, given in runs.items():
            add_entry_point(given[0], symbol, name, splitting)
        add_init(module, name)
    add_descriptions(module, first.graph, name)
    if first.tapped:
        add_untapped_run(module, name)
        every = {id: id for id in activations(first.graph)}
        _add_description(module, first.graph, f"{name}_{TENSORS}", every)
    constants = first.data.bytes()
    constants += bytes(-len(constants) % ALIGN)
    _add_identity(module, name, len(constants) + MARK_BYTES)
    arena = max(program.memory.arena_bytes for given in runs.values() for program in given)
    for given in runs.values():
        constants += Identity.of(given[0].graph, arena, ALIGN, first.data.size).record()
    code = generate(str(module), first.isa.triple)
    symbol = data_symbol(name)
    data = data_object(first.isa.platform, symbol, constants, ALIGN)
    return {f"{name}.o": code, f"{symbol}.o": data}


def _add_variant(program: Program, symbol: str, name: str, splitting: Splitting) -> ir.Function:
    """Of the function `symbol`, for the instruction set of the program."""
    length = symbol.removeprefix(f"{name}_run")
    run = add_entry_point(program, f"{program.prefix}_variant{length}", name, splitting)
    run.linkage = "internal"
    return run


def data_symbol(name: str) -> str:
    """The constant data of a library, not seen outside of it."""
    return f"{name}_data"


def emit_address(b: ir.IRBuilder, symbol: str) -> Value:
    """The address of hidden constants that another object defines.

    In ELF by the distance from a word of this object, as wide as a pointer: the objects of a
    library that no linker joins, in a process that has mapped much memory, lie further apart than
    32 bits reach. Objects of other formats are always joined.
    """
    if b.module.format is not ObjectFormat.ELF:
        return _constants(b.module, symbol)
    type, name = word_type(b), f"{symbol}_distance"
    here = b.module.globals.get(name)
    if here is None:
        there = _constants(b.module, symbol)
        here = ir.GlobalVariable(b.module, type, name)
        here.initializer = ir.distance(type, there, here)
        here.global_constant = True
        here.linkage = "internal"
    return b.inttoptr(
        b.add(b.ptrtoint(here, type), load(b, here, type, b.module.pointer_bytes)), PTR
    )


def _constants(module: ir.Module, symbol: str) -> ir.GlobalVariable:
    """Declared on first use."""
    known = module.globals.get(symbol)
    if isinstance(known, ir.GlobalVariable):
        return known
    made = ir.GlobalVariable(module, I8, symbol)
    # LLVM has the visibility in the place of the storage class. COFF has none.
    made.linkage, made.global_constant = "external", True
    made.storage_class = "" if module.format is ObjectFormat.COFF else "hidden"
    return made


def add_entry_point(program: Program, symbol: str, name: str, splitting: Splitting) -> ir.Function:
    """int symbol(const T *input..., T *output..., void *arena), of the library `name`.

    With taps there are two more arguments, the tap and its user.
    """
    graph, module = program.graph, program.module
    inputs, arrays = len(graph.inputs), len(graph.inputs) + len(graph.outputs)
    type = ir.FunctionType(I32, [PTR] * (arrays + (3 if program.tapped else 1)))
    run = ir.Function(module, type, symbol)
    run.attributes.add("nounwind")
    b = ir.IRBuilder(run.append_basic_block("entry"))
    bad, good = run.append_basic_block("bad_arena"), run.append_basic_block("good")
    arena = run.args[arrays]
    address = b.ptrtoint(arena, word_type(b))
    misaligned = b.icmp_unsigned("!=", b.and_(address, word(b, ALIGN - 1)), word(b, 0))
    null = b.icmp_unsigned("==", address, word(b, 0))
    b.cbranch(b.or_(misaligned, null), bad, good)
    b.position_at_end(bad)
    b.ret(ir.Constant(I32, STATUS_BAD_ARENA))
    b.position_at_end(good)
    data = emit_address(b, data_symbol(name))
    tap = (run.args[-2], run.args[-1]) if program.tapped else None
    pointers = run.args[:inputs], run.args[inputs:arrays], arena, data
    frame = Frame(*pointers, program.memory.offsets, tap)
    for check in program.checks:
        with b.if_then(emit_check(b, frame, check)):
            b.ret(ir.Constant(I32, STATUS_BAD_INPUT))
    Caller(b, program, frame, splitting).emit()
    b.ret(ir.Constant(I32, STATUS_OK))
    return run


def add_descriptions(module: ir.Module, graph: Graph, name: str) -> None:
    """NAME_inputs and NAME_outputs: arrays of qcomp_tensor without pointers, so no relocations."""
    for kind, tensors in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        _add_description(module, graph, f"{name}_{kind}", tensors)


def _add_description(
    module: ir.Module, graph: Graph, symbol: str, tensors: Mapping[str, TensorId]
) -> None:
    content = b"".join(describe(public, graph.tensor(t)) for public, t in tensors.items())
    variable = ir.GlobalVariable(module, ir.ArrayType(I8, len(content)), symbol)
    variable.initializer = ir.bytes_of(content)
    variable.global_constant = True
    variable.align = 8


def _add_identity(module: ir.Module, name: str, offset: int) -> None:
    """NAME_abi, and NAME_sizes: the address of a byte of the constants."""
    abi = ir.Function(module, ir.FunctionType(I32, []), f"{name}_abi")
    ir.IRBuilder(abi.append_basic_block("entry")).ret(ir.Constant(I32, ABI))
    sizes = ir.Function(module, ir.FunctionType(PTR, []), f"{name}_sizes")
    for function in (abi, sizes):
        function.attributes.add("nounwind")
    b = ir.IRBuilder(sizes.append_basic_block("entry"))
    b.ret(at(b, emit_address(b, data_symbol(name)), offset))


def describe(name: str, tensor: Tensor) -> bytes:
    """One qcomp_tensor of the header, little-endian."""
    if tensor.type.rank > MAX_RANK:
        raise TargetError(f"{name} has rank {tensor.type.rank}; accepted: up to {MAX_RANK}")
    shape: Sequence[int] = (*tensor.type.shape, *([0] * (MAX_RANK - tensor.type.rank)))
    q = tensor.qparams
    return struct.pack(
        f"<{NAME_BYTES}sii{MAX_RANK}ifi",
        name.encode()[: NAME_BYTES - 1].decode(errors="ignore").encode(),
        TYPE_CODES[tensor.type.dtype],
        tensor.type.rank,
        *shape,
        q.scale if q else 1.0,
        q.zero_point if q else 0,
    )
