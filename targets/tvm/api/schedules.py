"""What schedules ask TVM about a function and its blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qcomp.targets.tvm.api import MISSING
from qcomp.targets.tvm.api.expressions import Expr, type_of
from qcomp.targets.tvm.api.tensors import Function

if MISSING is None:
    import tvm
    import tvm_ffi
    from tvm import ir, s_tir, tirx

Schedule = Any


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
