"""The same graphs on the instruction sets of AArch64, in an emulator, give the same bits."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kept import kept_objects
from llvmlite import binding as llvm
from numpy.testing import assert_array_equal

from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    ArgMax,
    Interpolate,
    MaxPool2d,
    Op,
    QAdd,
    QAddWide,
    QAveragePool2d,
    QConv2d,
    QDense,
    QLogSoftmax,
    QMatMul,
    QMul,
    QReduceSum,
    QRescale,
    QSoftmax,
    Resize2d,
    ResizeMode,
    Table,
    Transpose,
)
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.tables import exp_table, exp_table_16, log_softmax_constants, log_table
from qcomp.targets.cpu.isa import AARCH64, AARCH64_DOTPROD, target_machine
from qcomp.targets.cpu.library.archive import archive
from qcomp.targets.cpu.library.dispatch import STATUS_BAD_CPU, STATUS_OK
from qcomp.targets.cpu.library.module import build_objects
from qcomp.targets.cpu.lower.graph import lower_graph, lower_variants
from qcomp.targets.cpu.lower.residual import fused_residuals
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.systems import LIBRARIES
from tests.targets.test_cpu_residual import block

# The processors to emulate: the least that each set runs on, and one with everything.
PROCESSORS = {AARCH64: ("cortex-a72", "max"), AARCH64_DOTPROD: ("neoverse-n1", "max")}
each_set = pytest.mark.parametrize("isa", PROCESSORS, ids=lambda isa: isa.name)

MAIN = """
#include <stdint.h>
#include <stdio.h>
static _Alignas(64) uint8_t arena[{arena}];
{buffers}
int net_run({parameters});
int main(void) {{
  {reads}
  int status = net_run({arguments});
  {writes}
  return status;
}}
"""


@pytest.fixture(scope="session")
def arm_gcc() -> str:
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    if compiler is None or shutil.which("qemu-aarch64") is None:
        pytest.skip("needs aarch64-linux-gnu-gcc and qemu-aarch64")
    return compiler


def run_in_emulator(
    graph: Graph, inputs: dict[str, Any], isas: Sequence[Isa], compiler: str, directory: Path
) -> dict[str, Any]:
    """Of a program that gets the inputs; the same on all processors of the least able set."""
    built(graph, isas, compiler, directory)
    feed = b"".join(inputs[name].tobytes() for name in graph.inputs)
    answers = {emulated(directory / "net", feed, processor) for processor in PROCESSORS[isas[0]]}
    (answer,) = answers
    results, offset = {}, 0
    for name, id in graph.outputs.items():
        type = graph.type(id)
        part = np.frombuffer(answer, type.dtype.numpy, type.size, offset)
        results[name], offset = part.reshape(type.shape), offset + type.bytes
    return results


def built(graph: Graph, isas: Sequence[Isa], compiler: str, directory: Path) -> None:
    """Link the library with a main that feeds it from stdin; the outputs come on stdout."""
    programs = lower_variants(graph, isas, "net")
    objects = build_objects(programs, "net", generate=kept_objects())
    (directory / "net.a").write_bytes(archive(objects))
    types = {
        **{f"in_{name}": graph.type(id) for name, id in graph.inputs.items()},
        **{f"out_{name}": graph.type(id) for name, id in graph.outputs.items()},
    }
    reads = [n for n in types if n.startswith("in_")]
    writes = [n for n in types if n.startswith("out_")]
    source = MAIN.format(
        arena=max(program.memory.arena_bytes for program in programs),
        buffers="\n".join(f"static uint8_t {n}[{t.bytes}];" for n, t in types.items()),
        parameters=", ".join(["void *"] * (len(types) + 1)),
        arguments=", ".join([*types, "arena"]),
        reads="\n".join(
            f"if (fread({n}, 1, sizeof {n}, stdin) != sizeof {n}) return 9;" for n in reads
        ),
        writes="\n".join(f"fwrite({n}, 1, sizeof {n}, stdout);" for n in writes),
    )
    (directory / "main.c").write_text(source, encoding="utf-8")
    undefined = subprocess.run(
        ["aarch64-linux-gnu-nm", "-uj", "--quiet", "net.a"], cwd=directory, stdout=subprocess.PIPE
    )
    assert undefined.stdout.split() == [b"net_data"]
    link = [compiler, "-static", "-Wall", "-Werror", "main.c", "net.a", "-o", "net"]
    subprocess.run(link, cwd=directory, check=True)


def test_a_processor_without_dot_products_is_refused(
    kit: Any, arm_gcc: str, tmp_path: Path
) -> None:
    """By the status of NAME_run, not by a signal: the library asks before it runs any of them."""
    op, constants = linear(kit, QDense, Form.NARROW, kit.i8(10, 19) | 1)
    graph, inputs = kit.one_op(op, kit.i8(2, 19), *constants)
    run_in_emulator(graph, inputs, [AARCH64_DOTPROD], arm_gcc, tmp_path)
    feed = b"".join(inputs[name].tobytes() for name in graph.inputs)
    assert _run(tmp_path / "net", feed, "cortex-a72").returncode == STATUS_BAD_CPU
    assert _run(tmp_path / "net", feed, "neoverse-n1").returncode == STATUS_OK


def test_one_library_of_both_sets_chooses_by_the_processor(
    kit: Any, arm_gcc: str, tmp_path: Path
) -> None:
    op, constants = linear(kit, QDense, Form.NARROW, kit.i8(10, 19) | 1)
    graph, inputs = kit.one_op(op, kit.i8(2, 19), *constants)
    got = run_in_emulator(graph, inputs, [AARCH64, AARCH64_DOTPROD], arm_gcc, tmp_path)
    for name, expected in evaluate(graph, inputs).items():
        assert_array_equal(got[name], expected)


ANDROID = LIBRARIES["arm64-android"]


@pytest.mark.parametrize(
    ("processor", "release", "able"),
    [
        ("neoverse-n1", "4.11.0", True),
        ("neoverse-n1", "4.19.110-perf", True),
        ("neoverse-n1", "5.4.0", True),
        ("neoverse-n1", "10.1.0", True),
        ("neoverse-n1", "4.10.17", False),
        ("neoverse-n1", "4.9.186-perf", False),
        ("neoverse-n1", "3.18.71", False),
        ("cortex-a72", "5.4.0", False),
    ],
)
def test_android_asks_for_dot_products_where_the_kernel_tells(
    kit: Any, processor: str, release: str, able: bool, arm_gcc: str, tmp_path: Path
) -> None:
    """The set alone runs where it may be used, and is refused by its status elsewhere."""
    op, constants = linear(kit, QDense, Form.NARROW, kit.i8(10, 19) | 1)
    graph, inputs = kit.one_op(op, kit.i8(2, 19), *constants)
    built(graph, ANDROID[1:], arm_gcc, tmp_path)
    feed = b"".join(inputs[name].tobytes() for name in graph.inputs)
    done = _run(tmp_path / "net", feed, processor, "-r", release)
    assert done.returncode == (STATUS_OK if able else STATUS_BAD_CPU)


def emulated(program: Path, feed: bytes, processor: str) -> bytes:
    done = _run(program, feed, processor)
    assert done.returncode == STATUS_OK
    return done.stdout


def _run(
    program: Path, feed: bytes, processor: str, *options: str
) -> subprocess.CompletedProcess[bytes]:
    command = ["qemu-aarch64", "-cpu", processor, *options, program]
    return subprocess.run(command, input=feed, stdout=subprocess.PIPE)


def linear(kit: Any, make: Any, form: Form, weight: Any, **fields: Any) -> tuple[Any, list[Any]]:
    multiplier, shift = {
        Form.NARROW: (700, 6),
        Form.WIDE: (2**30 + 7, 43),
        Form.TFLITE: (2**30 + 7, -11),
    }[form]
    outputs = len(weight)
    tables = [np.full(outputs, v, np.int32) for v in (99, multiplier, shift)]
    op = partial(make, x_zero_point=0, requantize=Requantize(form, -3), **fields)
    return op, [kit.fixed(a) for a in (weight, *tables)]


def cases(kit: Any) -> dict[str, tuple[Any, list[Any]]]:
    """An op and its operands."""
    pair = {"a_zero_point": -7, "b_zero_point": 100}
    wide = {"multiplier": 2**30 + 5, "shift": 39, "requantize": Requantize(Form.WIDE, 4)}
    x = kit.i8(2, 9, 10, 19)
    multiplier, shift, units = log_softmax_constants(0.05, 0.07)
    log = {"multiplier": multiplier, "shift": shift, "zero_point": 120}
    log_tables = [kit.fixed(exp_table(0.05)), kit.fixed(log_table(units))]
    result = narrow_cases(kit)
    for form in (Form.NARROW, Form.WIDE, Form.TFLITE):
        padding = {"padding": (1, 1, 1, 1)}
        op, constants = linear(kit, QConv2d, form, kit.i8(33, 3, 3, 19) | 1, **padding)
        result[f"conv {form.value}"] = op, [x, *constants]
    for bits, weight in ((4, kit.i8(33, 3, 3, 19) >> 5), (2, kit.i8(33, 3, 3, 19) >> 6 | 1)):
        op, constants = linear(kit, QConv2d, Form.NARROW, weight, padding=(1, 1, 1, 1))
        result[f"conv of {bits} bits"] = op, [x, *constants]
    op, constants = linear(kit, QDense, Form.WIDE, np.sign(kit.i8(33, 20) | 1))
    result["dense of 1 bit"] = op, [kit.i8(2, 20), *constants]
    op, constants = linear(kit, QConv2d, Form.NARROW, kit.i8(19, 3, 3, 1) | 1, groups=19)
    result["depthwise"] = op, [x, *constants]
    op, constants = linear(kit, QDense, Form.NARROW, kit.i8(10, 19) | 1)
    result["dense"] = op, [x, *constants]
    window = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)}
    multipliers = np.array([0, *(2**30 // n for n in range(1, 10))], np.int32)
    average = partial(
        QAveragePool2d, x_zero_point=0, shift=30, requantize=wide["requantize"], **window
    )
    add = {"a_multiplier": 9000, "b_multiplier": -70, "fraction_bits": 5, "zero_point": 3}
    mean = partial(QReduceSum, axes=(1, 2), keepdims=False, x_zero_point=-7, **wide)
    resize = partial(Resize2d, size=(13, 5), scale=(13 / 9, 5 / 10), mode=ResizeMode.LINEAR)
    return (
        result
        | cases_of_16_bits(kit)
        | {
            "matmul": (partial(QMatMul, **pair, **wide), [kit.i8(2, 9, 17), kit.i8(17, 21)]),
            "add": (partial(QAdd, **pair, **add), [x, kit.i8(19)]),
            "mul": (partial(QMul, **pair, **wide), [x, kit.i8(19)]),
            "table": (Table, [x, kit.fixed(kit.i8(256))]),
            "max pool": (partial(MaxPool2d, **window), [x]),
            "average pool": (average, [x, kit.fixed(multipliers)]),
            "mean": (mean, [x]),
            "argmax": (partial(ArgMax, axis=3), [x]),
            "softmax": (partial(QSoftmax, axis=3), [x, log_tables[0]]),
            "log softmax": (partial(QLogSoftmax, axis=3, **log), [x, *log_tables]),
            "resize": (resize, [x]),
            "transpose": (partial(Transpose, permutation=(0, 3, 1, 2)), [x]),
        }
    )


def narrow_cases(kit: Any) -> dict[str, tuple[Any, list[Any]]]:
    """Layers around the sizes of vectors, tiles and groups, with sums far beyond 16 bits."""
    first = {"stride": (2, 2), "padding": (0, 0, 1, 1)}
    layers: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
        "first layer": ((1, 9, 11, 3), (21, 3, 3, 3), first),
        "pointwise of 24": ((1, 7, 9, 24), (40, 1, 1, 24), {}),
        "pointwise to 24": ((1, 8, 7, 96), (24, 1, 1, 96), {}),
        "groups": ((1, 6, 9, 16), (20, 3, 3, 4), {"groups": 4}),
        "depthwise of 8": ((1, 9, 8, 8), (8, 3, 3, 1), {"groups": 8}),
        "depthwise of 40": ((1, 9, 8, 40), (40, 5, 5, 1), {"groups": 40, "stride": (2, 2)}),
    }
    result: dict[str, tuple[Any, list[Any]]] = {}
    for n, (name, (x, weight, window)) in enumerate(layers.items()):
        q = Requantize(Form.NARROW, 9 * n, -110 + n, 127 - 5 * n)
        multiplier, shift = [(32767, 0), (20000, 5), (1, 1)][n % 3]
        tables = [np.full(weight[0], v, np.int32) for v in (-77, multiplier, shift)]
        op = partial(QConv2d, x_zero_point=0, requantize=q, **window)
        constants = (np.maximum(kit.i8(*weight, seed=n), -127), *tables)
        result[name] = op, [kit.i8(*x, seed=n), *map(kit.fixed, constants)]
    return result


def cases_of_16_bits(kit: Any) -> dict[str, tuple[Any, list[Any]]]:
    """The kernels of their own; sums of dense are i64."""
    q = Requantize(Form.WIDE, 0, -(2**15), 2**15 - 1, 16)
    scaling = {"multiplier": 2**20 + 5, "shift": 38, "requantize": q}
    zeros = {"a_zero_point": 0, "b_zero_point": 0}
    x = kit.i16(2, 9, 10, 19)

    def linear_16(make: Any, weight: Any, dtype: Any, **fields: Any) -> tuple[Any, list[Any]]:
        values = (99, dtype), (2**20 + 7, np.int32), (30, np.int32)
        tables = [np.full(len(weight), n, t) for n, t in values]
        op = partial(make, x_zero_point=0, requantize=q, **fields)
        return op, [x, *map(kit.fixed, (weight, *tables))]

    average = partial(
        QAveragePool2d, x_zero_point=0, shift=30, requantize=q, kernel=(3, 3), padding=(1, 1, 1, 1)
    )
    multipliers = kit.fixed(np.array([0, *(2**30 // n for n in range(1, 10))], np.int32))
    wide = partial(
        QAddWide, **zeros, a_multiplier=2**30, b_multiplier=-(2**29), shift=31, zero_point=0,
        qmin=-(2**15), qmax=2**15 - 1, bits=16,
    )  # fmt: skip
    silu = partial(Interpolate, step_bits=7, zero_point=0, qmin=-(2**15), qmax=2**15 - 1, bits=16)
    entries = kit.fixed(np.arange(-(2**20), 2**20 + 1, 2**12).astype(np.int32))
    return {
        "conv 16": linear_16(QConv2d, kit.i8(33, 3, 3, 19) // 8, np.int32, padding=(1, 1, 1, 1)),
        "depthwise 16": linear_16(QConv2d, kit.i8(19, 3, 3, 1) | 1, np.int64, groups=19),
        "dense 16": linear_16(QDense, kit.i8(10, 19) | 1, np.int64),
        "matmul 16": (partial(QMatMul, **zeros, **scaling), [kit.i16(2, 9, 17), kit.i16(17, 21)]),
        "add 16": (wide, [x, kit.i16(19)]),
        "mul 16": (partial(QMul, **zeros, **scaling), [x, kit.i16(19)]),
        "rescale 16": (partial(QRescale, x_zero_point=0, **scaling), [x]),
        "interpolate 16": (silu, [x, entries]),
        "average pool 16": (average, [x, multipliers]),
        "mean 16": (
            partial(QReduceSum, axes=(1, 2), keepdims=False, x_zero_point=0, **scaling),
            [x],
        ),
        "argmax 16": (partial(ArgMax, axis=3), [x]),
        "softmax 16": (partial(QSoftmax, axis=3, bits=16), [x, kit.fixed(exp_table_16(0.0003))]),
        "transpose 16": (partial(Transpose, permutation=(0, 3, 1, 2)), [x]),
    }


def every_kind(kit: Any) -> tuple[Graph, dict[str, Any]]:
    """A graph of all cases side by side, and the values of its inputs."""
    graph, inputs = Graph("arm"), {}
    for name, (make, operands) in cases(kit).items():
        prefix = name.replace(" ", "_")
        one, values = kit.one_op(make, *operands)
        copied = {id: f"{prefix}.{id}" for id in (t.id for t in one.tensors())}
        for tensor in one.tensors():
            if tensor.is_constant:
                graph.add_tensor(_renamed(tensor, copied[tensor.id]))
        for public, id in one.inputs.items():
            graph.inputs[f"{prefix}_{public}"] = graph.add_tensor(
                _renamed(one.tensor(id), copied[id])
            )
            inputs[f"{prefix}_{public}"] = values[public]
        (op,) = one.ops()
        _add(graph, op, copied)
        graph.update_tensor(_renamed(one.tensor(op.output), copied[op.output]))
        graph.outputs[prefix] = copied[op.output]
    return graph, inputs


@each_set
def test_every_kind_of_kernel_in_one_program(
    kit: Any, isa: Isa, arm_gcc: str, tmp_path: Path
) -> None:
    graph, inputs = every_kind(kit)
    got = run_in_emulator(graph, inputs, [isa], arm_gcc, tmp_path)
    for name, expected in evaluate(graph, inputs).items():
        assert_array_equal(got[name], expected, err_msg=name)


@pytest.mark.parametrize("kernel", [1, 3])
def test_residual_additions_join_the_narrow_epilogue(
    kit: Any, kernel: int, arm_gcc: str, tmp_path: Path
) -> None:
    graph, inputs = block(kit, 7, 20, kernel, bordered=True, relu=True)
    assert fused_residuals(graph, AARCH64_DOTPROD)
    assert not fused_residuals(graph, AARCH64)
    got = run_in_emulator(graph, inputs, [AARCH64_DOTPROD], arm_gcc, tmp_path)
    for name, expected in evaluate(graph, inputs).items():
        assert_array_equal(got[name], expected, err_msg=name)


def loops(isa: Isa, graph: Graph) -> list[list[str]]:
    """The instructions of each loop without another in it, from its label to its branch."""
    module = llvm.parse_assembly(str(lower_graph(graph, isa, "net").module))
    lines = target_machine(isa.triple).emit_assembly(module).splitlines()
    labels, found = {}, []
    for n, line in enumerate(lines):
        words = line.split()
        if line.startswith(".LBB"):
            labels[words[0].rstrip(":")] = n
        elif words and words[0].startswith("b.") and words[-1] in labels:
            body = lines[labels[words[-1]] + 1 : n + 1]
            if not any(inner.startswith(".LBB") for inner in body):
                found.append([inner.split("//")[0].strip() for inner in body])
    return found


@pytest.mark.parametrize(("inputs", "outputs"), [(384, 96), (96, 24), (144, 8)])
def test_the_inner_loop_of_a_product_is_dot_products_and_does_not_spill(
    kit: Any, inputs: int, outputs: int
) -> None:
    op, constants = linear(kit, QConv2d, Form.NARROW, kit.i8(outputs, 1, 1, inputs) | 1)
    graph, _ = kit.one_op(op, kit.i8(1, 14, 14, inputs), *constants)
    counted = [
        (sum(i.startswith("sdot") for i in loop), loop) for loop in loops(AARCH64_DOTPROD, graph)
    ]
    dots, inner = max(counted, key=lambda found: found[0])
    assert dots >= 0.75 * len(inner)
    assert not [i for i in inner if "[sp" in i]


def _renamed(tensor: Any, id: str) -> Any:
    return type(tensor)(id, tensor.type, data=tensor.data, qparams=tensor.qparams)


def _add(graph: Graph, op: Op, names: dict[str, str]) -> None:
    inputs = tuple(names[t] for t in op.inputs)
    graph.add_op(replace(op, inputs=inputs, output=names[op.output]))
