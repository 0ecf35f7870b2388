"""From schedules to source or objects: the passes, and TVM's generators."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcomp.targets.tvm.api import MISSING
from qcomp.targets.tvm.api.schedules import Schedule
from qcomp.targets.tvm.api.tensors import Function

if MISSING is None:
    import tvm
    from tvm import ir, s_tir, tirx


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
