"""The C header: clean C and C++ under every warning; its conversions equal Python's bit for bit."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.tensor import DType, Tensor, TensorType
from qcomp.quant.conversion import Conversion, dequantize_real, quantize_real
from qcomp.quant.qparams import INTEGERS, QParams, dequantize, integer_range, quantize
from qcomp.quant.tail import Tail, TailFunction
from qcomp.targets.cpu.isa import AVX2, SSE41
from qcomp.targets.cpu.library.header import header

WARNINGS = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow", "-Wundef"]
COUNT = 500  # not a multiple of the header's blocks

# Scales that are powers of two, tiny, huge, and ones that are not exact in decimal.
QPARAMS = [
    QParams(0.5, 0),
    QParams(float(np.float32(0.1)), -128),
    QParams(float(np.float32(1 / 3)), 127),
    QParams(float(np.finfo(np.float32).tiny), 3),
    QParams(float(np.float32(1e38)), -5),
    QParams(1.0, 17, -127, 127),
    QParams(float(np.float32(1e-4)), 0, -(2**15), 2**15 - 1),
    QParams(float(np.float32(1e38)), 0, -(2**15) + 1, 2**15 - 1),
]


# Along the axis of 5 of [2, 5, 50]; one in all; a channel far from zero, and one upside down.
CONVERSIONS = [
    Conversion.of(1, np.array([1.0, 0.1, -0.3, 12.0, 1e-4]), np.array([0.0, 1013.0, 7.5, -50, 1])),
    Conversion.of(0, np.array([1 / 3]), np.array([295.0])),
]


def network(inputs: list[QParams], outputs: list[QParams | None]) -> Graph:
    """A graph of inputs and outputs only: all that the header looks at."""
    graph = Graph("net")
    for i, q in enumerate(inputs):
        type = TensorType(DType.activation(q.bits), (COUNT,))
        id = graph.add_input(f"x{i}", type)
        graph.update_tensor(Tensor(id, type, qparams=q))
    for i, out in enumerate(outputs):
        type = TensorType(DType.activation(out.bits) if out else DType.I32, (1, COUNT))
        graph.outputs[f"y{i}"] = graph.add_tensor(Tensor(f"y{i}", type, qparams=out))
    return graph


def compiled(cc: str, folder: Path, text: str, *flags: str, suffix: str = "c") -> None:
    """The header, twice, in one file, with every helper called."""
    (folder / "net.h").write_text(text)
    (folder / f"main.{suffix}").write_text(
        '#include "net.h"\n#include "net.h"\nint main(void) { return 0; }\n'
    )
    command = [cc, *flags, *WARNINGS, "-fsyntax-only", folder / f"main.{suffix}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def converted(q: QParams) -> Graph:
    """As many inputs and outputs as there are conversions."""
    graph = Graph("net")
    for i, conversion in enumerate(CONVERSIONS):
        type = TensorType(DType.activation(q.bits), (2, 5, 50))
        id = graph.add_input(f"x{i}", type)
        graph.update_tensor(Tensor(id, type, qparams=q))
        graph.outputs[f"y{i}"] = graph.add_tensor(Tensor(f"y{i}", type, qparams=q))
        graph.conversions |= {f"x{i}": conversion, f"y{i}": conversion}
    return graph


def tailed(q: QParams) -> Graph:
    """Outputs behind functions."""
    graph = converted(q)
    graph.tails = {
        "y0": Tail(TailFunction.LOG_SOFTMAX, 1),
        "y1": Tail(TailFunction.SIGMOID),
    }
    return graph


CASES = {
    "tailed": tailed(QPARAMS[1]),
    "converted": converted(QPARAMS[1]),
    "one": network(QPARAMS[:1], [QPARAMS[1]]),
    "several": network(QPARAMS, [*QPARAMS, None]),
    "indices": network(QPARAMS[1:2], [None]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("standard", ["c99", "c11", "c17"])
def test_the_header_is_clean_c(case: str, standard: str, cc: str, tmp_path: Path) -> None:
    compiled(cc, tmp_path, header(CASES[case], "net", 64, 0, [AVX2]), f"-std={standard}")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("standard", ["c++98", "c++11", "c++20"])
def test_the_header_is_clean_in_c_plus_plus(case: str, standard: str, tmp_path: Path) -> None:
    cxx = shutil.which("c++") or shutil.which("g++")
    if cxx is None:
        pytest.skip("no C++ compiler (c++, g++)")
    text = header(CASES[case], "net", 64, 0, [AVX2])
    compiled(cxx, tmp_path, text, f"-std={standard}", "-Wno-long-long", suffix="cpp")


def test_two_networks_share_a_translation_unit(cc: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.h").write_text(header(CASES["one"], name, 64, 0, [SSE41, AVX2]))
    text = (
        '#include "one.h"\n#include "two.h"\nint main(void) { return ONE_INPUTS - TWO_INPUTS; }\n'
    )
    (tmp_path / "main.c").write_text(text)
    command = [cc, "-std=c99", *WARNINGS, "-fsyntax-only", tmp_path / "main.c"]
    subprocess.run(command, check=True)


def test_sizes_are_constants(tmp_path: Path) -> None:
    text = header(CASES["several"], "net", 1280, 4096, [AVX2])
    for line in (
        "#define NET_ARENA_BYTES 1280",
        "#define NET_ARENA_ALIGN 64",
        "#define NET_WEIGHTS_BYTES 4096",
        "#define NET_INPUTS 8",
        "#define NET_OUTPUTS 9",
        "#define NET_INPUT7_SIZE 500",
        "#define NET_INPUT7_BYTES 1000",
        "#define NET_OUTPUT8_BYTES 2000",
    ):
        assert line in text
    assert "const int16_t *input7, int8_t *output0" in text
    assert "int32_t *output8, void *arena);" in text
    assert "net_dequantize_output8" not in text


class Conversions:
    """The header's helpers, called from Python."""

    def __init__(self, library: Path, bits: list[int]) -> None:
        self.library, self.bits = ctypes.CDLL(str(library)), bits

    def quantize(self, which: int, real: NDArray[np.float32]) -> NDArray[np.integer]:
        padded = np.zeros(-(-real.size // COUNT) * COUNT, np.float32)
        padded[: real.size] = real.ravel()
        q = np.empty(padded.size, INTEGERS[self.bits[which]])
        function = getattr(self.library, f"quantize{which}")
        for i in range(0, padded.size, COUNT):
            function(ctypes.c_void_p(padded[i:].ctypes.data), ctypes.c_void_p(q[i:].ctypes.data))
        return q[: real.size]

    def dequantize(self, which: int, q: NDArray[np.integer]) -> NDArray[np.float32]:
        real = np.empty(COUNT, np.float32)
        function = getattr(self.library, f"dequantize{which}")
        function(ctypes.c_void_p(q.ctypes.data), ctypes.c_void_p(real.ctypes.data))
        return real


@pytest.fixture(scope="module", params=["-O0", "-O3"])
def conversions(
    request: pytest.FixtureRequest, cc: str, tmp_path_factory: pytest.TempPathFactory
) -> Conversions:
    graph = network(QPARAMS, list(QPARAMS))
    path = library(cc, tmp_path_factory.mktemp("c"), graph, request.param)
    return Conversions(path, [q.bits for q in QPARAMS])


def library(cc: str, folder: Path, graph: Graph, *flags: str) -> Path:
    """A shared one of the helpers of a graph, by their numbers."""
    (folder / "net.h").write_text(header(graph, "net", 64, 0, [AVX2]))
    lines = ['#include "net.h"']
    for i, t in enumerate(graph.inputs.values()):
        type = f"{graph.type(t).dtype.numpy}_t"
        lines += [
            f"void quantize{i}(const float *x, {type} *q) {{ net_quantize_input{i}(x, q); }}",
            f"void dequantize{i}(const {type} *q, float *x) {{ net_dequantize_output{i}(q, x); }}",
        ]
    (folder / "net.c").write_text("\n".join(lines))
    options = ["-std=c99", *flags, "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([cc, *options, folder / "net.c", "-o", folder / "net.so"], check=True)
    return folder / "net.so"


@pytest.mark.parametrize("flags", [["-O0"], ["-std=gnu11", "-O3", "-march=native"]])
@pytest.mark.parametrize("q", [QPARAMS[1], QPARAMS[6]])
def test_conversions_equal_python_in_every_bit(
    flags: list[str], q: QParams, cc: str, tmp_path: Path
) -> None:
    """Also where the compiler may fuse a product and a sum."""
    helpers = Conversions(library(cc, tmp_path, converted(q), *flags), [q.bits] * 2)
    random = np.random.default_rng(0)
    for which, conversion in enumerate(CONVERSIONS):
        integers = random.integers(q.qmin, q.qmax + 1, (2, 5, 50)).astype(INTEGERS[q.bits])
        real = dequantize_real(integers, q, conversion)
        assert helpers.dequantize(which, integers.ravel()).tobytes() == real.tobytes()
        noisy = real + random.normal(size=real.shape).astype(np.float32)
        noisy.ravel()[:4] = [np.nan, np.inf, -np.inf, 1e30]
        expected = quantize_real(noisy, q, conversion).ravel()
        assert_array_equal(helpers.quantize(which, noisy), expected)
        assert expected[0] == q.zero_point


@pytest.mark.parametrize("which", range(len(QPARAMS)))
def test_quantize_equals_python_on_ties_and_extremes(conversions: Conversions, which: int) -> None:
    q = QPARAMS[which]
    limits = np.finfo(np.float32)
    with np.errstate(over="ignore"):
        steps = np.concatenate([np.arange(n, n + 1200, 0.25) for n in (-33200, -600, 32000)])
        near = steps.astype(np.float32) * np.float32(q.scale)
    special = np.array(
        [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, limits.max, limits.min, limits.tiny,
         -limits.tiny, 1e-45, -1e-45, 2.0**31, -(2.0**31), 2.0**63, 511.99997, -511.99997],
        np.float32,
    )  # fmt: skip
    finite = near[np.isfinite(near)]
    values = np.concatenate(
        [
            near,
            np.nextafter(finite, np.float32(np.inf)),
            np.nextafter(finite, np.float32(-np.inf)),
            special,
        ]
    )
    assert_array_equal(conversions.quantize(which, values), quantize(values, q))


@settings(max_examples=60, deadline=None)
@given(
    bits=st.lists(st.integers(0, 2**32 - 1), min_size=COUNT, max_size=COUNT),
    which=st.integers(0, len(QPARAMS) - 1),
)
def test_quantize_equals_python_on_any_bits(
    conversions: Conversions, bits: list[int], which: int
) -> None:
    values = np.array(bits, np.uint32).view(np.float32)
    with np.errstate(invalid="ignore"):
        expected = quantize(values, QPARAMS[which])
    assert_array_equal(conversions.quantize(which, values), expected)


@pytest.mark.parametrize("which", range(len(QPARAMS)))
def test_dequantize_equals_python_in_every_bit(conversions: Conversions, which: int) -> None:
    low, high = integer_range(QPARAMS[which].bits)
    values = np.concatenate([np.arange(low, low + 128), np.arange(high - 127, high + 1)])
    q = np.resize(values, COUNT).astype(INTEGERS[QPARAMS[which].bits])
    with np.errstate(over="ignore"):
        expected = dequantize(q, QPARAMS[which])
    assert conversions.dequantize(which, q).tobytes() == expected.tobytes()


@pytest.mark.parametrize("bits", [8, 16])
def test_the_largest_of_each_row_are_those_of_a_stable_sort(
    bits: int, cc: str, tmp_path: Path
) -> None:
    """Also with many equal ones."""
    type = TensorType(DType.activation(bits), (3, 20))
    graph = network([QPARAMS[0]], [])
    graph.outputs["y"] = graph.add_tensor(
        Tensor("y", type, qparams=QParams(0.5, 0, *integer_range(bits)))
    )
    (tmp_path / "net.h").write_text(header(graph, "net", 64, 0, [AVX2]))
    (tmp_path / "net.c").write_text(
        '#include "net.h"\n'
        f"void top(const int{bits}_t *q, int32_t k, int32_t *i) {{ net_top_output(q, k, i); }}\n"
    )
    options = ["-std=c99", "-O2", "-shared", "-fPIC", *WARNINGS]
    subprocess.run([cc, *options, tmp_path / "net.c", "-o", tmp_path / "net.so"], check=True)
    top = ctypes.CDLL(str(tmp_path / "net.so")).top
    random = np.random.default_rng(0)
    for k in (1, 5, 20):
        for least in (-3, -128):
            q = random.integers(least, -least, type.shape).astype(type.dtype.numpy)
            found = np.zeros((3, k), np.int32)
            top(q.ctypes.data_as(ctypes.c_void_p), k, found.ctypes.data_as(ctypes.c_void_p))
            assert_array_equal(found, np.argsort(-q.astype(int), axis=1, kind="stable")[:, :k])


def test_what_has_another_order_than_its_integers_has_no_largest() -> None:
    """Scales that differ along the axis, or are negative."""
    assert "net_top_output0" not in header(converted(QPARAMS[1]), "net", 64, 0, [AVX2])
    assert "net_top_output1" in header(converted(QPARAMS[1]), "net", 64, 0, [AVX2])
