"""What a library with taps has besides: a run that tells of tensors, and their descriptions.

    int NAME_run_tapped(const T *input..., T *output..., void *arena, qcomp_tap tap, void *user)

The tap and its user are arguments, and counts of clipped values lie in the arena, so that there is
no more global state than without. NAME_run is a run that tells nobody.
"""

from __future__ import annotations

from collections.abc import Sequence

from qcomp.ir.graph import Graph
from qcomp.ir.tensor import TensorId
from qcomp.targets.base import Taps
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I32, PTR, raw
from qcomp.targets.cpu.emit.words import word, word_type
from qcomp.targets.cpu.library.frame import Frame
from qcomp.targets.cpu.program import Call

RUN_TAPPED, TENSORS = "run_tapped", "tensors"
DECLARATION = """\
#ifndef QCOMP_TAP_DEFINED
#define QCOMP_TAP_DEFINED
/* Is told of a tensor behind the op that computes it, on the thread of the run: dense, row-major,
   of the type and shape that NAME_tensors has under its number. `data` is gone when it returns. */
typedef void (*qcomp_tap)(void *user, int tensor, const void *data, size_t bytes);
#endif
"""


def emit_tap(b: ir.IRBuilder, call: Call, frame: Frame) -> None:
    """Tell of the tensor that a call has computed, if it has a tap and somebody listens."""
    if call.tap is None or frame.tap is None:
        return
    function, user = frame.tap
    type = ir.FunctionType(ir.VoidType(), [PTR, I32, PTR, word_type(b)])
    arguments = [
        user,
        ir.Constant(I32, call.tap.number),
        raw(frame.pointer(b, call.tap.values)),
        word(b, call.tap.bytes),
    ]
    with b.if_then(b.icmp_unsigned("!=", function, ir.zero(PTR))):
        b.call(ir.Pointed(function, type), arguments)


def add_untapped_run(module: ir.Module, name: str) -> None:
    """NAME_run: the other one without a tap."""
    tapped = module.get_function(f"{name}_{RUN_TAPPED}")
    count = len(tapped.args) - 2
    run = ir.Function(module, ir.FunctionType(I32, [PTR] * count), f"{name}_run")
    run.attributes.add("nounwind")
    b = ir.IRBuilder(run.append_basic_block("entry"))
    b.ret(b.call(tapped, [*run.args, ir.zero(PTR), ir.zero(PTR)]))


def tap_declarations(
    graph: Graph, name: str, arguments: Sequence[str], extern: str, taps: Taps
) -> list[str]:
    """The part of the header, with a table of all tensors."""
    tensors = taps.tensors
    lines = [
        *DECLARATION.splitlines(),
        "",
        f"#define {name.upper()}_TENSORS {len(tensors)}",
        f"{extern} qcomp_tensor {name}_{TENSORS}[{len(tensors)}];",
        f"/* {name}_run that tells `tap` of tensors, or nobody where it is null. Those that only",
        "   registers hold, within the kernel of another op, are not told of.",
        *(f"   {number:4d} {_shown(graph, id, taps)}" for number, id in enumerate(tensors)),
        "*/",
        f"int {name}_{RUN_TAPPED}({', '.join(arguments)}, void *arena, qcomp_tap tap, void *user);",
        "",
        "/* How many values of each tensor the last run in this arena left at an end of their",
        "   integers: those that were clipped, and that just reach it. The least integer does not",
        "   count where it stands for 0, as behind a ReLU. */",
        f"static inline const int32_t *{name}_clipped(const void *arena) {{",
        "  return (const int32_t *)arena;",
        "}",
        "",
    ]
    return lines


def _shown(graph: Graph, id: TensorId, taps: Taps) -> str:
    """Ids could end a comment."""
    op = graph.producer(id)
    told = f"{id}: {'input' if op is None else op.mnemonic}, {graph.type(id)}"
    sets = [isa for isa, missing in taps.missing.items() if id in missing]
    if sets:
        of = "" if len(sets) == len(taps.missing) else f" of {', '.join(sets)}"
        told += f", in registers{of}"
    return told.replace("*/", "* /")
