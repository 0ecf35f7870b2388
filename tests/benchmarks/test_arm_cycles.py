"""Model cycles of ARM cores: what is counted is what ran, on the processors that can run it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from arm_cycles import COMPILER, CORES, LLVM, Library, cycles, priced, traced
from compile_time import noise
from onnx import TensorProto, helper, numpy_helper

import qcomp

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples/digits.onnx"
TOOLS = ("qemu-aarch64", COMPILER, "cc", f"llvm-mca-{LLVM}", f"llvm-objdump-{LLVM}")


@pytest.fixture
def tools() -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


def compiled(target: str, folder: Path) -> Library:
    data = noise(str(DIGITS), 2)
    qcomp.compile(str(DIGITS), target, calibration=data, recipe="fast", name="digits").save(folder)
    return Library.of(folder)


@pytest.mark.slow
def test_dot_products_take_fewer_cycles_and_no_core_runs_what_it_lacks(
    tools: None, tmp_path: Path
) -> None:
    plain, dots = (compiled(t, tmp_path / t) for t in ("aarch64", "aarch64-dotprod"))
    of_plain, of_dots = (cycles(library, CORES["A76"]) for library in (plain, dots))
    assert any("gemm" in name for name in of_plain)
    assert 0 < sum(of_dots.values()) < sum(of_plain.values())
    assert cycles(dots, CORES["A72"]) == {}


def test_windows_are_what_the_functions_executed(tools: None, tmp_path: Path) -> None:
    functions = traced(compiled("aarch64-dotprod", tmp_path), "max")
    for function in functions:
        assert 0 < len(function.window) <= function.sampled
    (largest,) = sorted(functions, key=lambda f: -f.instructions)[:1]
    assert any(text.startswith("sdot") for text in largest.window)


def test_a_library_runs_on_a_sample_of_its_own_and_says_what_it_refuses(
    tools: None, tmp_path: Path
) -> None:
    table = numpy_helper.from_array(np.eye(5, 16, dtype=np.float32), "table")
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 16])
    node = helper.make_node("Gather", ["table", "ids"], ["y"])
    model = helper.make_model(helper.make_graph([node], "words", [ids], [y], [table]))
    sample = {"ids": np.array([[4, 0, 2]])}
    qcomp.compile(model, "aarch64", calibration=[sample], recipe="fast", name="words").save(
        tmp_path
    )
    library = Library.of(tmp_path)
    assert sum(cycles(library, CORES["A72"]).values()) > 0
    beyond = replace(library, sample=(b"\x7f" * len(library.sample[0]),))
    with pytest.raises(RuntimeError, match="words_run on cortex-a72: status"):
        cycles(beyond, CORES["A72"])


def test_a_chain_of_products_takes_the_latency_of_each(tools: None) -> None:
    chain = ("smull v0.8h, v0.8b, v0.8b",) * 100
    apart = tuple(f"smull v{1 + n % 8}.8h, v0.8b, v0.8b" for n in range(100))
    assert priced(chain, CORES["A76"]) > 3 * priced(apart, CORES["A76"]) / 2
