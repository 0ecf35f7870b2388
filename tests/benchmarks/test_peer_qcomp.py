"""The adapter for bench_peers.py, with a stand-in for that module, on the digits network."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import qcomp


@dataclass
class Prepared:
    """The fields that bench_peers.py reads."""

    run: Any
    outputs: Any = None
    size: int = 0


class Adapter:
    """bench_peers.py's base class has defaults only."""


def files_size(*paths: str) -> int:
    return sum(os.path.getsize(path) for path in paths)


@pytest.fixture(scope="module")
def adapters() -> Any:
    """peer_qcomp, imported as bench_peers.py imports it."""
    peers = ModuleType("bench_peers")
    vars(peers).update(Adapter=Adapter, Prepared=Prepared, fsize=files_size, peer=lambda c: c)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "bench_peers", peers)
        patch.setenv("QCOMP_PYTHON", sys.executable)
        patch.delitem(sys.modules, "peer_qcomp", raising=False)
        yield importlib.import_module("peer_qcomp")
        del sys.modules["peer_qcomp"]


@pytest.fixture(scope="module")
def images(examples: Path) -> np.ndarray:
    with np.load(examples / "digits_calibration.npz") as file:
        return file[file.files[0]][:8].astype(np.float32)


def config(isa: str = "native", threads: int = 1) -> SimpleNamespace:
    return SimpleNamespace(isa=isa, threads=threads)


@pytest.mark.slow
@pytest.mark.parametrize("peer", ["QcompInt8", "QcompInt8FloatIo"])
def test_the_outputs_are_those_of_the_compiled_network(
    peer: str, adapters: Any, examples: Path, images: np.ndarray, cc: str, tmp_path: Path
) -> None:
    adapter = getattr(adapters, peer)()
    model = SimpleNamespace(onnx=str(examples / "digits.onnx"))
    art = adapter.build(model, [[image[None]] for image in images], config(), tmp_path)
    net = qcomp.load(art)
    x = images[:1]
    for threads in (1, 2):
        prepared = adapter.load(model, art, [x], config(threads=threads))
        assert prepared.run() == 0
        (answer,) = prepared.outputs()
        assert_array_equal(answer, net(x))
        assert prepared.size > net.weights_bytes


@pytest.mark.slow
def test_a_refused_model_is_said_in_one_line(
    adapters: Any, images: np.ndarray, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Det", ["x"], ["y"])],
        "refused",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4, 4])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])],
    )
    file = tmp_path / "refused.onnx"
    onnx.save(onnx.helper.make_model(graph), file)
    model = SimpleNamespace(onnx=str(file))
    with pytest.raises(RuntimeError, match="Det"):
        adapters.QcompInt8().build(model, [[np.zeros((1, 4, 4), np.float32)]], config(), tmp_path)


def test_every_limit_of_the_peers_has_a_target(adapters: Any) -> None:
    assert adapters.QcompInt8().isas() == ["native", "avx512_vnni", "avx2_vnni", "avx2"]


def test_several_tensors_and_indices_are_numbered_as_in_the_header() -> None:
    from float_io import float_io

    manifest = {
        "inputs": [{"dtype": "int8"}, {"dtype": "int8"}],
        "outputs": [{"dtype": "int8"}, {"dtype": "int32"}],
    }
    text = float_io("net", manifest)
    assert "net_run(in0, in1, out0, out1, arena)" in text
    assert "net_quantize_input1(from1, in1);" in text
    assert "net_dequantize_output0(out0, to0);" in text
    assert "to1[i] = (float)out1[i];" in text
