"""A library as its linker and loader see it: no needs, one variable, no floating point."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from symbols import PUBLIC

import qcomp
from qcomp.targets.cpu.isa import FAMILIES
from qcomp.targets.cpu.library.dispatch import variables

X86 = platform.machine() in ("x86_64", "AMD64")

# Arithmetic, comparison and conversion of floats, of x87, SSE and AVX; moves and bitwise operations
# on the same registers (movaps, vxorps, vshufps ...) move integers too and are no arithmetic.
FLOATS = re.compile(
    r":\tv?(add|sub|mul|div|sqrt|min|max|cmp\w*|u?comi|round|rndscale|rcp\w*|rsqrt\w*|fn?m\w+|"
    r"dp|hadd|hsub|addsub|scalef|getexp|getmant|range|reduce|fixupimm)(ss|sd|ps|pd|sh|ph)\b"
    r"|:\tv?cvt\w+|:\tf(ld|st|ist|ild|add|sub|mul|div|com|sqrt)\w*\b"
)
# The same of AArch64: fadd, fmul, fmla, scvtf, fcvtzs ...; fmov moves bits and
# fneg flips the sign bit, with both of which LLVM makes integer constants.
FLOATS_AARCH64 = re.compile(r":\t(f(?!mov|neg)\w+|[su]cvtf)\s")


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}")
    return found


def output_of(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def model(
    nodes: Sequence[onnx.NodeProto], shape: Sequence[int], constants: dict[str, Any]
) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(a, n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "network", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def normal(*shape: int) -> Any:
    return np.random.default_rng(4).normal(size=shape).astype(np.float32)


def convolutions() -> onnx.ModelProto:
    """Full, depthwise and pointwise convolutions, pooling, a residual and a classifier."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]),
        node("HardSwish", ["a"], ["b"]),
        node("Conv", ["b", "w2"], ["c"], pads=[1, 1, 1, 1], group=24),
        node("Conv", ["c", "w3"], ["d"]),
        node("Add", ["d", "b"], ["e"]),
        node("MaxPool", ["e"], ["f"], kernel_shape=[2, 2], strides=[2, 2]),
        node("AveragePool", ["f"], ["g"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Resize", ["g", "", "scales"], ["h"], mode="linear"),
        node("GlobalAveragePool", ["h"], ["i"]),
        node("Flatten", ["i"], ["j"]),
        node("Gemm", ["j", "w4"], ["k"], transB=1),
        node("Softmax", ["k"], ["y"]),
    ]
    weights = {"w1": normal(24, 3, 3, 3), "w2": normal(24, 1, 3, 3), "w3": normal(24, 24, 1, 1)}
    scales = np.array([1, 1, 2, 2], np.float32)
    return model(nodes, [1, 3, 12, 12], {**weights, "w4": normal(10, 24), "scales": scales})


def attention() -> onnx.ModelProto:
    """Matrix products of activations, softmax, layout changes, reductions and tables."""
    node = helper.make_node
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        node("MatMul", ["x", "t"], ["s"]),
        node("Softmax", ["s"], ["p"], axis=-1),
        node("MatMul", ["p", "x"], ["a"]),
        node("Tanh", ["a"], ["b"]),
        node("Mul", ["b", "x"], ["c"]),
        node("Concat", ["c", "x"], ["d"], axis=1),
        node("ReduceMean", ["d"], ["e"], axes=[1], keepdims=0),
        node("LogSoftmax", ["e"], ["y"], axis=-1),
    ]
    return model(nodes, [1, 7, 20], {})


MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], tuple[int, ...]]] = {
    "convolutions": (convolutions, (1, 3, 12, 12)),
    "attention": (attention, (1, 7, 20)),
}
TARGETS = [pytest.param("native", marks=pytest.mark.native), "x86-64", "aarch64"]


@pytest.fixture(scope="module", params=TARGETS)
def for_target(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module", params=MODELS)
def built(
    request: pytest.FixtureRequest, for_target: str, tmp_path_factory: pytest.TempPathFactory
) -> qcomp.CompiledNetwork:
    """Each model for each target, saved."""
    make, shape = MODELS[request.param]
    random = np.random.default_rng(5)
    data = [random.normal(size=shape).astype(np.float32) for _ in range(4)]
    net = qcomp.compile(make(), for_target, calibration=data, recipe="fast", name="net")
    net.save(tmp_path_factory.mktemp("library") / "out")
    return net


def file(net: qcomp.CompiledNetwork, name: str) -> Path:
    assert net.directory is not None
    path = net.directory / name
    if not path.exists():
        pytest.skip(f"no linker for {net.artifact.requires.triple}, so no {name}")
    return path


def symbols(library: Path) -> Iterator[tuple[str, str, str]]:
    """Visibility, section and name of all that are not local."""
    listed = output_of(tool("readelf"), "--wide", "--symbols", library)
    yield from re.findall(r" (?:GLOBAL|WEAK) +(\w+) +(\w+) (\S+)$", listed, re.MULTILINE)


def test_its_objects_need_only_each_other(built: qcomp.CompiledNetwork) -> None:
    found = list(symbols(file(built, "libnet.a")))
    undefined = {name for _, section, name in found if section == "UND"}
    assert undefined == {"net_data"}
    assert undefined <= {name for _, section, name in found if section != "UND"}


def test_it_needs_no_symbol(built: qcomp.CompiledNetwork) -> None:
    assert [
        name for _, section, name in symbols(file(built, "libnet.so")) if section == "UND"
    ] == []


@pytest.mark.parametrize("library", ["libnet.a", "libnet.so"])
def test_it_exports_what_the_header_declares(built: qcomp.CompiledNetwork, library: str) -> None:
    names = {name for visible, _, name in symbols(file(built, library)) if visible == "DEFAULT"}
    choice = {"net_set_isa"} if len(built.isa) > 1 else set()
    assert names == {f"net_{part}" for part in PUBLIC} | choice


def test_the_loader_has_nothing_to_do(built: qcomp.CompiledNetwork) -> None:
    """No other library, no relocation, none of them in code, no initialiser."""
    path = file(built, "libnet.so")
    dynamic = output_of(tool("readelf"), "--wide", "--dynamic", path)
    assert re.findall(r"\((NEEDED|TEXTREL|INIT\w*|RPATH|RUNPATH)\)", dynamic) == []
    assert "[libnet.so.1]" in dynamic
    assert "no relocations" in output_of(tool("readelf"), "--relocs", path)


def test_the_stack_is_not_executable(built: qcomp.CompiledNetwork) -> None:
    segments = output_of(tool("readelf"), "--wide", "--segments", file(built, "libnet.so"))
    stack = [line.split() for line in segments.splitlines() if "GNU_STACK" in line]
    assert [words[-2] for words in stack] == ["RW"]


def test_an_object_asks_for_no_executable_stack(built: qcomp.CompiledNetwork) -> None:
    sections = output_of(tool("readelf"), "--wide", "--sections", file(built, "libnet.a"))
    assert ".note.GNU-stack" in sections


@pytest.mark.parametrize("library", ["libnet.a", "libnet.so"])
def test_no_data_is_writable_but_what_is_promised(
    built: qcomp.CompiledNetwork, library: str
) -> None:
    """And what the dynamic linker itself asks for."""
    listed = output_of(tool("readelf"), "--wide", "--sections", file(built, library))
    row = re.compile(
        r"\]\s+(\S+)\s+\S+\s+[0-9a-f]+\s+[0-9a-f]+\s+([0-9a-f]+)\s+\S+\s+([A-Z]*W\w*)\s"
    )
    writable = [(name, size) for name, size, _ in row.findall(listed)]
    linkers = (".dynamic", ".got", ".got.plt")
    sizes = {name: int(size, 16) for name, size in writable if name not in linkers}
    assert [name for name, size in sizes.items() if size] == [".bss"]
    promised = variables([isa for f in FAMILIES.values() for isa in f if isa.name in built.isa])
    assert -(-sizes[".bss"] // 8) == -(-sum(promised.values()) // 8)


def test_no_instruction_is_floating_point_arithmetic(built: qcomp.CompiledNetwork) -> None:
    arm = built.artifact.requires.triple.startswith("aarch64")
    cross = arm and platform.machine() != "aarch64"
    disassembler = tool("aarch64-linux-gnu-objdump" if cross else "objdump")
    library = file(built, "libnet.a")
    code = output_of(disassembler, "-d", "--no-show-raw-insn", library)
    assert "<net_run>:" in code
    pattern = FLOATS_AARCH64 if arm else FLOATS
    assert [line for line in code.splitlines() if pattern.search(line)] == []


@pytest.mark.parametrize(
    "line", ["addss", "vmulps", "cvtsi2sd", "vcvtps2dq", "vfmadd231ps", "ucomisd", "fldt", "minps"]
)
def test_the_check_knows_floats(line: str) -> None:
    assert FLOATS.search(f"  10:\t{line} %xmm0,%xmm1")


@pytest.mark.parametrize(
    "line", ["paddd", "vpmulhrsw", "movaps", "vxorps", "vpminsd", "vshufps", "vinsertps", "vpaddsb"]
)
def test_the_check_knows_integers(line: str) -> None:
    assert not FLOATS.search(f"  10:\t{line} %xmm0,%xmm1")


MAIN = r"""
#include <stdio.h>
#include "net.h"
static unsigned char memory[NET_ARENA_BYTES + NET_ARENA_ALIGN];
int main(void) {
  static int8_t input[NET_INPUT0_SIZE], output[NET_OUTPUT0_SIZE];
  unsigned char *arena = memory;
  while ((uintptr_t)arena % NET_ARENA_ALIGN) arena++;
  if (net_run(input, output, arena + 1) != QCOMP_BAD_ARENA) return 2;
  if (net_run(input, output, 0) != QCOMP_BAD_ARENA) return 3;
  while (fread(input, sizeof input, 1, stdin) == 1) {
    if (net_run(input, output, arena) != QCOMP_OK) return 4;
    fwrite(output, sizeof output, 1, stdout);
  }
  return 0;
}
"""


def runner(net: qcomp.CompiledNetwork, cc: str) -> tuple[str, list[str]]:
    """A compiler for the network's machine, and what its programs are run by."""
    triple = net.artifact.requires.triple
    if net.lacking is None:
        return cc, []
    if not triple.startswith("aarch64"):
        pytest.skip(f"no way to run {triple} on {platform.machine()}")
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.skip("no qemu-aarch64")
    return tool("aarch64-linux-gnu-gcc"), [emulator]


def test_a_c_program_gives_the_stored_answers(
    built: qcomp.CompiledNetwork, cc: str, tmp_path: Path
) -> None:
    """On this machine, or on an emulated one."""
    compiler, emulator = runner(built, cc)
    library = file(built, "libnet.a")
    (tmp_path / "main.c").write_text(MAIN)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{library.parent}"]
    command = [compiler, *flags, "-static", "main.c", library, "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    with np.load(library.parent / "net.vectors.npz") as vectors:
        inputs, outputs = vectors["input_0"], vectors["output_0"]
    more = np.random.default_rng(6).integers(-128, 128, (20, *inputs.shape[1:]), np.int8)
    expected = np.stack([built.specification_integer(x) for x in more])
    feed = np.concatenate([inputs, more]).tobytes()
    done = subprocess.run([*emulator, tmp_path / "main"], input=feed, capture_output=True)
    assert done.returncode == 0, done
    assert done.stdout == np.concatenate([outputs, expected]).tobytes()
