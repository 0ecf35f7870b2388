"""All that qcomp uses of TVM, under names of its own: TVM renames much from version to version.

Nothing else imports it. It can be imported without TVM; what needs it asks
`qcomp.targets.tvm.packages` first.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import tvm
    import tvm_ffi
    from tvm import ir, s_tir, te, tirx

    MISSING = None
except ImportError as error:
    MISSING = str(error)

Expr = Any  # of TVM: a number
Tensor = Any  # of TVM's tensor expressions
Function = Any  # of TVM: a PrimFunc
Schedule = Any


# ------------------------------------------------------------------ expressions


def const(value: int, dtype: str) -> Expr:
    return tirx.const(value, dtype)


def cast(x: Expr, dtype: str) -> Expr:
    return x.astype(dtype)


def select(condition: Expr, a: Expr, b: Expr) -> Expr:
    """a where the condition holds, else b; both are computed."""
    return tirx.Select(condition, a, b)


def guarded(condition: Expr, a: Expr, b: Expr) -> Expr:
    """The same, but a is computed only where the condition holds: a load that may be outside."""
    return tirx.if_then_else(condition, a, b)


def all_of(conditions: Sequence[Expr]) -> Expr:
    return tirx.all(*conditions)


def minimum(a: Expr, b: Expr) -> Expr:
    return tirx.min(a, b)


def maximum(a: Expr, b: Expr) -> Expr:
    return tirx.max(a, b)


def number(x: Expr) -> Expr:
    """An element of a tensor as an expression like others."""
    return x.asobject() if isinstance(x, te.tensor.TensorSlice) else x


def type_of(x: Expr) -> str:
    return str(number(x).ty.dtype)


def let(value: Expr, body: Callable[[Expr], Expr]) -> Expr:
    """body(value), which reads the value several times and computes it once."""
    value = number(value)
    variable = tirx.Var("v", value.ty)
    return tirx.Let(variable, value, body(variable))


def quotient(a: Expr, b: Expr) -> Expr:
    """a / b, cut; of numbers that are not negative also the floor."""
    return tirx.truncdiv(a, b)


def floor_quotient(a: Expr, b: Expr) -> Expr:
    return tirx.floordiv(a, b)


def remainder(a: Expr, b: Expr) -> Expr:
    return tirx.floormod(a, b)


def function_of_c(dtype: str, name: str, *arguments: Expr) -> Expr:
    """A call of a function that the source defines, which has no effects."""
    return tirx.call_pure_extern(dtype, name, *arguments)


# ------------------------------------------------------------------ tensors


def placeholder(shape: Sequence[int], dtype: str, number: int) -> Tensor:
    """A tensor that lies in memory; no two of a function have one number."""
    return te.placeholder(tuple(shape), dtype, name=f"buffer{number}")


def compute(shape: Sequence[int], element: Callable[..., Expr], name: str = "t") -> Tensor:
    """The tensor of element(*indices)."""
    return te.compute(tuple(shape), element, name=name)


def axis(extent: int) -> Any:
    """What a sum, or an extreme, runs over; `index_of` it is a number."""
    return te.reduce_axis((0, extent), name="k")


def index_of(axis: Any) -> Expr:
    return axis.var


def total(x: Expr, axes: Sequence[Any]) -> Expr:
    return te.sum(x, axis=list(axes))


def largest(x: Expr, axes: Sequence[Any]) -> Expr:
    return te.max(x, axis=list(axes))


def smallest(x: Expr, axes: Sequence[Any]) -> Expr:
    return te.min(x, axis=list(axes))


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    return tuple(int(extent) for extent in tensor.shape)


def dtype_of(tensor: Tensor) -> str:
    return str(tensor.dtype)


def identity(tensor: Tensor) -> Any:
    """What stands for the tensor in a dict; tensors compare as numbers do."""
    return tensor.op


def is_placeholder(tensor: Tensor) -> bool:
    return isinstance(tensor.op, te.PlaceholderOp)


def operands_of(tensor: Tensor) -> list[Tensor]:
    """The tensors that the elements of one are computed from."""
    return list(tensor.op.input_tensors)


def is_reduced(tensor: Tensor) -> bool:
    """Whether its elements are sums or extremes themselves."""
    return bool(len(tensor.op.reduce_axis)) if isinstance(tensor.op, te.ComputeOp) else False


def function(operands: Sequence[Tensor], result: Tensor) -> Function:
    """The function of buffers (*operands, result)."""
    return te.create_prim_func([*operands, result])


def text_of(function: Function) -> str:
    """The same for functions that differ in the numbers of their operands only."""
    numbers: dict[str, str] = {}
    return re.sub(
        r"\bbuffer\d+\b",
        lambda match: numbers.setdefault(match[0], f"buffer{len(numbers)}"),
        str(function.script()),
    )


# ------------------------------------------------------------------ schedules

_REDUCE = 2  # of the kinds of a block's axes


class NoSchedule(Exception):
    """A schedule that TVM refuses."""


def schedule_of(function: Function, name: str) -> Schedule:
    """A schedule of one function, whose symbol becomes `name`."""
    return s_tir.Schedule(ir.IRModule({"main": function.with_attr("global_symbol", name)}))


def blocks_of(schedule: Schedule) -> list[Any]:
    """One for each tensor that the function computes, in order."""
    return list(schedule.get_child_blocks(schedule.get_sblock("root")))


def is_called(schedule: Schedule, block: Any, name: str) -> bool:
    """Whether a block computes the tensor of this name."""
    return str(schedule.get(block).name_hint) == name


def reads_of(schedule: Schedule, block: Any) -> int:
    """How many buffers a block reads."""
    return len(schedule.get(block).reads)


def is_reduction(schedule: Schedule, block: Any) -> bool:
    return any(int(v.iter_type) == _REDUCE for v in schedule.get(block).iter_vars)


def reads_vectors(schedule: Schedule, block: Any) -> bool:
    """Whether neighbours along a block's last spatial axis read neighbours, or one element, and
    call no functions of C.

    Then its loop can be vectors: TVM's gathers of i8 are wrong in OpenCL, and in CUDA it refuses
    vectors of one i8.
    """
    found, sums = schedule.get(block), is_reduction(schedule, block)
    spatial = [v.var for v in found.iter_vars if int(v.iter_type) != _REDUCE]
    good = True

    def look(load: Any) -> None:
        nonlocal good
        if not load.indices or not spatial:
            return
        *front, last = load.indices
        same = not _mentions(last, spatial[-1]) and (sums or type_of(load) != "int8")
        plain = last.same_as(spatial[-1]) or same
        good = good and plain and not any(_mentions(index, spatial[-1]) for index in front)

    def refuse(call: Any) -> None:
        nonlocal good
        good = good and str(call.op.name) != "tirx.call_pure_extern"

    tvm_ffi.structural_walk(found.body, [(ir.expr.TensorLoad, look), (ir.expr.Call, refuse)])
    return good


def _mentions(expression: Expr, variable: Any) -> bool:
    found: list[Any] = []
    tvm_ffi.structural_walk(expression, (ir.expr.Var, lambda v: found.append(v)))
    return any(v.same_as(variable) for v in found)


def extent_of(schedule: Schedule, loop: Any) -> int:
    """NoSchedule where it is not a constant, as of a region that TVM could not bound."""
    extent = schedule.get(loop).extent
    if not isinstance(extent, (int, tirx.IntImm)):
        raise NoSchedule(f"a loop has the extent {extent}")
    return int(extent)


def attempted(rule: Callable[[], Any]) -> Any:
    """rule(), or NoSchedule with what TVM says."""
    try:
        return rule()
    except (s_tir.ScheduleError, tvm.error.InternalError) as error:
        raise NoSchedule(str(error)) from error


# ------------------------------------------------------------------ code


@dataclass(frozen=True)
class Code:
    """`text` is source; `parameters` are, by kernel, which of its buffers each parameter is."""

    text: str
    parameters: Mapping[str, tuple[int, ...]]


def _passes() -> list[Any]:
    """As tvm.s_tir.pipeline has them, without what these schedules never use."""
    a, b = s_tir.transform, tirx.transform
    return [
        a.CanonicalizeLoop(),
        a.LowerCrossThreadReduction(),
        a.LowerInitBlock(),
        a.PlanAndUpdateBufferAllocationLocation(),
        a.ConvertBlocksToOpaque(),
        a.LiftThreadBinding(),
        a.CompactBufferAllocation(),
        a.UnifyThreadBinding(),
        a.LowerMatchBuffer(),
        a.StmtSimplify(),
        a.LowerOpaqueBlock(),
        b.FlattenBuffer(),
        a.LoopPartition(),
        b.VectorizeLoop(True),
        b.StorageRewrite(),
        a.HoistIfThenElse(),
        b.UnrollLoop(),
        a.RenormalizeSplitPattern(),
        b.StmtSimplify(),
        b.RemoveNoOp(),
        a.RewriteUnsafeSelect(),
        b.CommonSubexprElim(),
        a.ThreadSync("shared"),
        a.MergeSharedMemoryAllocations(),
    ]


def _lowered(schedules: Mapping[str, Schedule], target: Any) -> Any:
    functions = {name: schedule.mod["main"] for name, schedule in schedules.items()}
    module = tirx.transform.BindTarget(target)(ir.IRModule(functions))
    for step in _passes():
        module = step(module)
    return module


def _names(schedules: Mapping[str, Schedule]) -> dict[str, list[str]]:
    """The buffers of each function."""
    return {
        name: [str(p.name) for p in schedule.mod["main"].params]
        for name, schedule in schedules.items()
    }


def device_code(schedules: Mapping[str, Schedule], kind: str, options: Mapping[str, Any]) -> Code:
    """The kernels of functions whose loops are bound to threads; kernels are NAME_kernel."""
    alone = tvm.target.Target({"kind": kind, **options})
    module = _lowered(schedules, alone.with_host(tvm.target.Target({"kind": "c"})))
    module = tirx.transform.SplitHostDevice()(module)
    module = tirx.transform.Filter(lambda f: int(f.attrs.get("calling_conv", 0)) == 2)(module)
    for step in (s_tir.transform.StmtSimplify(), tirx.transform.LowerIntrin()):
        module = step(module)
    buffers = _names(schedules)
    kernels = {g.name_hint.removesuffix("_kernel"): f for g, f in module.functions.items()}
    positions = {
        name: tuple(buffers[name].index(str(p.name).removesuffix("_ptr")) for p in kernel.params)
        for name, kernel in kernels.items()
    }
    built = tvm.get_global_func(f"target.build.{kind}")(module, alone)
    text = _kernels_alone(str(built.inspect_source()))
    return Code(text, {name: positions[name] for name in schedules})


def _kernels_alone(text: str) -> str:
    """Without what TVM writes before the first kernel, for all types that there are, and without
    the prototypes of all kernels before each of them.
    """
    first = re.search(r'^(extern "C" __global__|__kernel) ', text, re.MULTILINE)
    lines = text[first.start() if first else 0 :].splitlines(keepends=True)
    return "".join(line for line in lines if not re.match(r".*_kernel\(.*\);$", line))


def _with_pointers(function: Function) -> Function:
    """A lowered function of buffers as one of pointers, which C can call."""
    pointers = {
        str(p.name): tirx.Var(str(p.name), ir.PointerType(ir.PrimType("int8"), "global"))
        for p in function.params
    }
    statements = []
    for statement in function.body.seq:
        if isinstance(statement, tirx.DeclBuffer):
            pointer = pointers[str(statement.data.args[0].name)]
            statement = tirx.DeclBuffer(statement.buffer, data=pointer)
        statements.append(statement)
    bare = tirx.PrimFunc(list(pointers.values()), tirx.SeqStmt(statements))
    return bare.with_attrs(dict(function.attrs))


def _host_module(schedules: Mapping[str, Schedule], kind: str, options: Mapping[str, Any]) -> Any:
    target = tvm.target.Target({"kind": kind, **options})
    module = _lowered(schedules, target)
    bare = {g.name_hint: _with_pointers(f) for g, f in module.functions.items()}
    module = tirx.transform.LowerIntrin()(ir.IRModule(bare))
    return tvm.get_global_func(f"target.build.{kind}")(module, target)


def host_source(schedules: Mapping[str, Schedule], options: Mapping[str, Any]) -> str:
    """C functions NAME(buffers)."""
    return str(_host_module(schedules, "c", options).inspect_source("c"))


def host_object(schedules: Mapping[str, Schedule], options: Mapping[str, Any]) -> bytes:
    """The same as a relocatable object of LLVM's."""
    module = _host_module(schedules, "llvm", options)
    with tempfile.TemporaryDirectory(prefix="qcomp-") as folder:
        path = Path(folder) / "kernels.o"
        module.write_to_file(str(path), "o")
        return path.read_bytes()
