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
    QMaximum,
    QMinimum,
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
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.gemm_vectors import VectorGemm
from qcomp.targets.cpu.isa import AARCH64, AARCH64_DOTPROD, AARCH64_I8MM, ARM_LADDER, target_machine
from qcomp.targets.cpu.kernels.axis import Axis
from qcomp.targets.cpu.kernels.depthwise_layout import DepthwiseSpec
from qcomp.targets.cpu.kernels.depthwise_tiling import plan_taps, runs_of, tile_of
from qcomp.targets.cpu.kernels.gemm import GemmSpec
from qcomp.targets.cpu.library.archive import archive
from qcomp.targets.cpu.library.dispatch import STATUS_BAD_CPU, STATUS_OK
from qcomp.targets.cpu.library.module import build_objects
from qcomp.targets.cpu.lower.graph import function_attributes, lower_graph, lower_variants
from qcomp.targets.cpu.lower.residual import fused_residuals
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.measure.peaks import emit_dots
from qcomp.targets.cpu.program import Kernels
from qcomp.targets.cpu.systems import LIBRARIES
from tests.targets.test_cpu_ceiling import network as bounded
from tests.targets.test_cpu_residual import block

# The processors to emulate: the least that each set runs on, and one with everything.
PROCESSORS = {
    AARCH64: ("cortex-a72", "max"),
    AARCH64_DOTPROD: ("neoverse-n1", "max"),
    AARCH64_I8MM: ("max",),
}
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


@pytest.mark.parametrize(
    ("isa", "without", "with_them"),
    [(AARCH64_DOTPROD, "cortex-a72", "neoverse-n1"), (AARCH64_I8MM, "neoverse-n1", "max")],
    ids=["dotprod", "i8mm"],
)
def test_a_processor_without_the_instructions_is_refused(
    kit: Any, isa: Isa, without: str, with_them: str, arm_gcc: str, tmp_path: Path
) -> None:
    """By the status of NAME_run, not by a signal: the library asks before it runs any of them."""
    op, constants = linear(kit, QDense, Form.NARROW, kit.i8(10, 19) | 1)
    graph, inputs = kit.one_op(op, kit.i8(2, 19), *constants)
    run_in_emulator(graph, inputs, [isa], arm_gcc, tmp_path)
    feed = b"".join(inputs[name].tobytes() for name in graph.inputs)
    assert _run(tmp_path / "net", feed, without).returncode == STATUS_BAD_CPU
    assert _run(tmp_path / "net", feed, with_them).returncode == STATUS_OK


def test_one_library_of_both_sets_chooses_by_the_processor(
    kit: Any, arm_gcc: str, tmp_path: Path
) -> None:
    op, constants = linear(kit, QDense, Form.NARROW, kit.i8(10, 19) | 1)
    graph, inputs = kit.one_op(op, kit.i8(2, 19), *constants)
    got = run_in_emulator(graph, inputs, ARM_LADDER, arm_gcc, tmp_path)
    for name, expected in evaluate(graph, inputs).items():
        assert_array_equal(got[name], expected)


CHOICES = """
#include <stdio.h>
int net_set_isa(int isa);
int main(void) {
  for (int isa = -1; isa < 4; isa++) printf("%d ", net_set_isa(isa));
}
"""


def test_sets_that_the_processor_lacks_can_not_be_asked_for(
    kit: Any, arm_gcc: str, tmp_path: Path
) -> None:
    op, constants = linear(kit, QDense, Form.NARROW, kit.i8(10, 19) | 1)
    graph, _ = kit.one_op(op, kit.i8(2, 19), *constants)
    objects = build_objects(lower_variants(graph, ARM_LADDER, "net"), "net")
    (tmp_path / "net.a").write_bytes(archive(objects))
    (tmp_path / "main.c").write_text(CHOICES, encoding="utf-8")
    link = [arm_gcc, "-static", "main.c", "net.a", "-o", "net"]
    subprocess.run(link, cwd=tmp_path, check=True)
    plain, dots = b"2 0 0 2 2 ", b"2 0 0 0 2 "
    answers = {"cortex-a53": plain, "cortex-a72": plain, "neoverse-n1": dots, "max": dots}
    for processor, answer in answers.items():
        assert emulated(tmp_path / "net", b"", processor) == answer


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
@pytest.mark.parametrize(
    "isa", [AARCH64_DOTPROD, LIBRARIES["arm64-android"][-1]], ids=["linux", "android"]
)
def test_dot_products_are_asked_for_where_the_kernel_tells(
    kit: Any, isa: Isa, processor: str, release: str, able: bool, arm_gcc: str, tmp_path: Path
) -> None:
    """The set alone runs where it may be used, and is refused by its status elsewhere."""
    op, constants = linear(kit, QDense, Form.NARROW, kit.i8(10, 19) | 1)
    graph, inputs = kit.one_op(op, kit.i8(2, 19), *constants)
    built(graph, [isa], arm_gcc, tmp_path)
    feed = b"".join(inputs[name].tobytes() for name in graph.inputs)
    done = _run(tmp_path / "net", feed, processor, "-r", release)
    assert done.returncode == (STATUS_OK if able else STATUS_BAD_CPU)


WINDOWS = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
int net_set_isa(int isa);
int main(int argc, char **argv) {
  uint8_t *page = mmap((void *)0x7ffe0000, 4096, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  if (page == MAP_FAILED) return 9;
  page[0x274 + 43] = atoi(argv[1]);
  for (int isa = -1; isa < 4; isa++) printf("%d ", net_set_isa(isa));
}
"""


@pytest.mark.parametrize(("there", "answer"), [(0, b"2 0 0 2 2 "), (1, b"2 0 0 0 2 ")])
def test_windows_is_asked_by_the_page_that_it_shares_with_programs(
    kit: Any, there: int, answer: bytes, arm_gcc: str, tmp_path: Path
) -> None:
    """The code for Windows as an object for Linux, in a program that has such a page."""
    isas = [replace(isa, platform=AARCH64.platform) for isa in LIBRARIES["arm64-windows"]]
    op, constants = linear(kit, QDense, Form.NARROW, kit.i8(10, 19) | 1)
    graph, _ = kit.one_op(op, kit.i8(2, 19), *constants)
    objects = build_objects(lower_variants(graph, isas, "net"), "net")
    (tmp_path / "net.a").write_bytes(archive(objects))
    (tmp_path / "main.c").write_text(WINDOWS, encoding="utf-8")
    link = [arm_gcc, "-static", "main.c", "net.a", "-o", "net"]
    subprocess.run(link, cwd=tmp_path, check=True)
    run = ["qemu-aarch64", "-cpu", "max", tmp_path / "net", str(there)]
    assert subprocess.run(run, capture_output=True, check=True).stdout == answer


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
    least = np.full((9, 1, 1, 37), -128, np.int8)
    op, constants = linear(kit, QConv2d, Form.NARROW, least)
    result["the most negative products"] = op, [np.full((1, 3, 5, 37), -128, np.int8), *constants]
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


def elementwise_cases(kit: Any) -> dict[str, tuple[Any, list[Any]]]:
    """Of every length up to two vectors, with the largest terms, sums and products."""
    pair = {"a_zero_point": -128, "b_zero_point": 127}
    result: dict[str, tuple[Any, list[Any]]] = {}
    for n in (1, 7, 16, 23, 33):
        x, y = kit.i8(n, seed=n), kit.i8(n, seed=n + 1)
        x[:1], y[:1] = 127, -128
        adds = [(16000, 8000, 0, 0), (-9000, 20000, 3, 100), (32767, 32767, 7, -5), (1, -1, 15, 9)]
        for k, (a, b, fraction, zero_point) in enumerate(adds):
            scales = {"a_multiplier": a, "b_multiplier": b, "fraction_bits": fraction}
            add = partial(QAdd, **pair, **scales, zero_point=zero_point, qmin=-120, qmax=127)
            result[f"add {k} of {n}"] = add, [x, y]
        for shift, multiplier, zero_point in ((0, 3, 0), (2, 32767, -7), (15, 20000, 64)):
            q = Requantize(Form.NARROW, zero_point, -128, 99)
            mul = partial(QMul, **pair, multiplier=multiplier, shift=shift, requantize=q)
            result[f"mul {shift} of {n}"] = mul, [x, y]
        result[f"minimum {n}"] = partial(QMinimum, qmin=-100, qmax=90), [x, y]
        result[f"maximum {n}"] = partial(QMaximum, qmin=-128, qmax=127), [x, y]
    return result


@each_set
def test_elementwise_ops_of_every_length(kit: Any, isa: Isa, arm_gcc: str, tmp_path: Path) -> None:
    expect_exact(kit, elementwise_cases(kit), isa, arm_gcc, tmp_path)


def narrow_cases(kit: Any) -> dict[str, tuple[Any, list[Any]]]:
    """Layers around the sizes of vectors, tiles and groups, with sums far beyond 16 bits."""
    first = {"stride": (2, 2), "padding": (0, 0, 1, 1)}
    layers: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
        "first layer": ((1, 9, 11, 3), (21, 3, 3, 3), first),
        "pointwise of 24": ((1, 7, 9, 24), (40, 1, 1, 24), {}),
        "pointwise to 24": ((1, 8, 7, 96), (24, 1, 1, 96), {}),
        "half panels": ((1, 7, 7, 36), (44, 1, 1, 36), {}),
        "groups": ((1, 6, 9, 16), (20, 3, 3, 4), {"groups": 4}),
        "depthwise of 8": ((1, 9, 8, 8), (8, 3, 3, 1), {"groups": 8}),
        "depthwise of 40": ((1, 9, 8, 40), (40, 5, 5, 1), {"groups": 40, "stride": (2, 2)}),
    }
    result: dict[str, tuple[Any, list[Any]]] = {}
    for n, (name, (x, weight, window)) in enumerate(layers.items()):
        q = Requantize(Form.NARROW, 9 * n if n % 3 else -128, -110 + n, 127 - 5 * n)
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


def side_by_side(kit: Any, cases: dict[str, tuple[Any, list[Any]]]) -> tuple[Graph, dict[str, Any]]:
    """A graph of all cases, and the values of its inputs."""
    graph, inputs = Graph("arm"), {}
    for name, (make, operands) in cases.items():
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


def every_kind(kit: Any) -> tuple[Graph, dict[str, Any]]:
    """Of every kind of kernel."""
    return side_by_side(kit, cases(kit))


def expect_exact(
    kit: Any, cases: dict[str, tuple[Any, list[Any]]], isa: Isa, compiler: str, directory: Path
) -> None:
    """All cases as one program have the specification's bits."""
    graph, inputs = side_by_side(kit, cases)
    got = run_in_emulator(graph, inputs, [isa], compiler, directory)
    for name, expected in evaluate(graph, inputs).items():
        assert_array_equal(got[name], expected, err_msg=name)


@each_set
def test_every_kind_of_kernel_in_one_program(
    kit: Any, isa: Isa, arm_gcc: str, tmp_path: Path
) -> None:
    expect_exact(kit, cases(kit), isa, arm_gcc, tmp_path)


DEPTHWISE: dict[str, tuple[tuple[int, ...], tuple[int, int], dict[str, Any]]] = {
    "3 channels": ((1, 6, 7, 3), (3, 3), {}),
    "8 channels": ((1, 9, 8, 8), (3, 3), {"padding": (1, 1, 1, 1)}),
    "12 channels": ((2, 5, 9, 12), (3, 3), {"stride": (2, 2), "padding": (0, 0, 1, 1)}),
    "16 channels": ((1, 7, 7, 16), (3, 3), {"dilation": (2, 3), "padding": (2, 2, 3, 3)}),
    "24 channels": ((1, 7, 7, 24), (5, 5), {"padding": (2, 2, 2, 2)}),
    "40 channels": ((1, 9, 8, 40), (5, 3), {"stride": (2, 1)}),
    "67 channels": ((1, 3, 5, 67), (3, 3), {}),
    "shared columns": ((1, 9, 24, 32), (3, 2), {}),
    "shared columns in turns": ((1, 6, 10, 32), (3, 3), {}),
    "one column": ((1, 12, 1, 20), (5, 1), {}),
    "one row": ((1, 1, 11, 20), (1, 4), {"stride": (1, 3)}),
    "pool of an image": ((1, 7, 7, 21), (7, 7), {}),
    "long kernel": ((1, 2, 45, 19), (2, 41), {}),
}


def depthwise_cases(kit: Any) -> dict[str, tuple[Any, list[Any]]]:
    result: dict[str, tuple[Any, list[Any]]] = {}
    for n, (name, (x, kernel, window)) in enumerate(DEPTHWISE.items()):
        channels = x[3]
        for least in (-127, -128):
            weight = np.maximum(kit.i8(channels, *kernel, 1, seed=n), -127)
            weight[-1] = least
            form = [Form.NARROW, Form.NARROW, Form.WIDE, Form.TFLITE][n % 4]
            op, constants = linear(kit, QConv2d, form, weight, groups=channels, **window)
            values = kit.i8(*x, seed=n)
            values[..., -1] = -128
            result[f"{name} from {-least}"] = op, [values, *constants]
    return result


@each_set
def test_depthwise_layers_of_every_shape(kit: Any, isa: Isa, arm_gcc: str, tmp_path: Path) -> None:
    """With the largest products: of -128 by -127, of which two fit 16 bits, and by -128."""
    expect_exact(kit, depthwise_cases(kit), isa, arm_gcc, tmp_path)


@each_set
@pytest.mark.parametrize("kernel", [1, 3])
def test_residual_additions_join_the_narrow_epilogue(
    kit: Any, kernel: int, isa: Isa, arm_gcc: str, tmp_path: Path
) -> None:
    graph, inputs = block(kit, 7, 20, kernel, bordered=True, relu=True)
    assert fused_residuals(graph, isa)
    got = run_in_emulator(graph, inputs, [isa], arm_gcc, tmp_path)
    for name, expected in evaluate(graph, inputs).items():
        assert_array_equal(got[name], expected, err_msg=name)


@each_set
@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
def test_a_ceiling_of_each_channel_stays_with_its_channel(
    kit: Any, kind: str, isa: Isa, arm_gcc: str, tmp_path: Path
) -> None:
    graph = bounded(kind, kit.i8(21))
    inputs = {"x": kit.i8(*graph.type("x").shape)}
    got = run_in_emulator(graph, inputs, [isa], arm_gcc, tmp_path)
    assert_array_equal(got["z"], evaluate(graph, inputs)["z"])


SHAPES = [(1, 4), (1, 23), (3, 12), (5, 8), (7, 36), (9, 17)]  # pixels, channels


@each_set
def test_matrices_of_few_rows_and_channels(
    kit: Any, isa: Isa, arm_gcc: str, tmp_path: Path
) -> None:
    """Parts of tiles, of pairs of pixels and of vectors; each channel scales its own way."""
    found: dict[str, tuple[Any, list[Any]]] = {}
    for n, (pixels, channels) in enumerate(SHAPES):
        q = Requantize(Form.NARROW, 5 - n)
        tables = [
            np.arange(channels, dtype=np.int32) * 97 - 800,
            np.arange(channels, dtype=np.int32) * 211 + 9000,
            np.arange(channels, dtype=np.int32) % 5 + 3,
        ]
        op = partial(QDense, x_zero_point=0, requantize=q)
        weight = np.maximum(kit.i8(channels, 27 + n, seed=n), -127)
        constants = [kit.fixed(a) for a in (weight, *tables)]
        found[f"{pixels} by {channels}"] = op, [kit.i8(pixels, 27 + n, seed=n), *constants]
    expect_exact(kit, found, isa, arm_gcc, tmp_path)


def loops(isa: Isa, module: ir.Module) -> list[list[str]]:
    """The instructions of each loop without another in it, from its label to its branch."""
    parsed = llvm.parse_assembly(str(module))
    lines = target_machine(isa.triple).emit_assembly(parsed).splitlines()
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


# What multiplies and adds, and its share of the innermost loop; the rest are loads and copies.
PRODUCTS = {
    AARCH64: (("smull", "smlal", "sadalp"), 0.7),
    AARCH64_DOTPROD: (("sdot",), 0.8),
    # A register of weights has two channels: of four pixels by sixteen channels, 16 k, 32 products
    # come with 12 loads and 4 zips of pixels, so two of three instructions are the most.
    AARCH64_I8MM: (("smmla",), 0.53),
}


def of_products(kit: Any, inputs: int, outputs: int, isa: Isa) -> tuple[float, list[str]]:
    """The innermost loop of a pointwise layer, and which part of it are products."""
    op, constants = linear(kit, QConv2d, Form.NARROW, kit.i8(outputs, 1, 1, inputs) | 1)
    graph, _ = kit.one_op(op, kit.i8(1, 14, 14, inputs), *constants)
    names, _ = PRODUCTS[isa]
    module = lower_graph(graph, isa, "net").module
    counted = [(sum(i.startswith(names) for i in loop), loop) for loop in loops(isa, module)]
    products, inner = max(counted, key=lambda found: found[0])
    return products / len(inner), inner


@each_set
@pytest.mark.parametrize(
    ("inputs", "outputs"), [(384, 96), (288, 24), (144, 8), (96, 576), (960, 320)]
)
def test_an_inner_loop_is_mostly_products(kit: Any, inputs: int, outputs: int, isa: Isa) -> None:
    share, _ = of_products(kit, inputs, outputs, isa)
    assert share >= PRODUCTS[isa][1]


@each_set
@pytest.mark.parametrize(("inputs", "outputs"), [(384, 96), (96, 24), (288, 24), (144, 8)])
def test_no_sums_are_spilled_in_an_inner_loop(
    kit: Any, inputs: int, outputs: int, isa: Isa
) -> None:
    _, inner = of_products(kit, inputs, outputs, isa)
    assert not [i for i in inner if "[sp" in i]


@each_set
def test_peaks_are_measured_by_what_kernels_multiply_with(isa: Isa) -> None:
    module = ir.Module("peak", isa.platform)

    def emit(b: ir.IRBuilder, pointers: Sequence[Any], begin: Any, end: Any) -> None:
        emit_dots(b, isa, pointers[0], begin, end)
        b.ret_void()

    kernels = Kernels(module, "peak", function_attributes(isa))
    name = kernels.get("dots", (), [False], emit, ranged=True)
    module.get_function(name).linkage = "external"
    names, _ = PRODUCTS[isa]
    (loop,) = loops(isa, module)
    assert sum(i.startswith(names) for i in loop) >= 0.8 * len(loop)


def test_short_rows_are_whole_tiles_of_half_a_panel() -> None:
    """A row of 7 pixels times 8 channels: 7 times 16 do not fit the registers."""
    (family,) = AARCH64_DOTPROD.machine.gemms
    spec = GemmSpec(
        groups=Axis(1, 0, 0), batch=Axis(1, 0, 0), rows=Axis(7, 512, 640), columns=Axis(7, 64, 80),
        segments=(), length=64, channels=40, form=Form.NARROW, packing=family.packing,
    )  # fmt: skip
    kernel = family.kernel(spec, AARCH64_DOTPROD)
    assert isinstance(kernel, VectorGemm)
    assert (kernel.tile.columns, kernel.tile.blocks) == (7, (2, 2, 2, 2, 2))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (14, 3, 1, (1, 2, 3)),
        (29, 3, 2, (2, 1, 1)),
        (14, 5, 1, (2, 0, 1)),  # more columns than registers hold
        (3, 3, 1, (1, 0, 1)),  # one result: nothing to share
    ],
)
def test_neighbouring_depthwise_tiles_share_columns_where_registers_hold_them(
    size: int, kernel: int, stride: int, expected: tuple[int, int, int]
) -> None:
    """Columns of a tile, those of the source that the one before had, tiles in a trip."""
    machine, results = AARCH64_DOTPROD.machine, (size - kernel) // stride + 1
    pixel, row = 32, 32 * size
    spec = DepthwiseSpec(
        batch=Axis(1, 0, 0), rows=Axis(results, stride * row, 32 * results),
        columns=Axis(results, stride * pixel, pixel), kernel=(kernel, kernel),
        steps=(row, pixel), channels=32, form=Form.NARROW, layout=machine.blocks,
    )  # fmt: skip
    costs = machine.depthwise.tiles
    (run,) = runs_of(spec, machine.vectors)
    tile = tile_of(spec, plan_taps(spec, machine.depthwise.layout), costs, run)
    assert (tile.columns, len(tile.carried), tile.turns) == expected


def test_limits_of_i8_take_no_instructions(kit: Any) -> None:
    """sqxtn has them already; others are a maximum and a minimum."""
    op, constants = linear(kit, QDense, Form.NARROW, kit.i8(16, 19) | 1)
    free, _ = kit.one_op(op, kit.i8(2, 19), *constants)
    q = Requantize(Form.NARROW, -3, -100, 100)
    limited, _ = kit.one_op(
        partial(QDense, x_zero_point=0, requantize=q), kit.i8(2, 19), *constants
    )
    texts = [str(lower_graph(g, AARCH64_DOTPROD, "net").module) for g in (free, limited)]
    assert ["icmp sgt <16 x i8>" in text for text in texts] == [False, True]


def _renamed(tensor: Any, id: str) -> Any:
    return type(tensor)(id, tensor.type, data=tensor.data, qparams=tensor.qparams)


def _add(graph: Graph, op: Op, names: dict[str, str]) -> None:
    inputs = tuple(names[t] for t in op.inputs)
    graph.add_op(replace(op, inputs=inputs, output=names[op.output]))
