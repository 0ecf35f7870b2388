"""A compiled network leaves as ONNX, TFLite, encodings and a table, and its directory suffices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from exact_sums import exact_session
from network_builder import Builder
from numpy.testing import assert_allclose
from onnx import TensorProto, numpy_helper
from tflite_models import reference

import qcomp
from qcomp.formats.calibration_table import read_table
from qcomp.passes.base import PassManager
from qcomp.pipeline import LOWER, Given
from qcomp.runtime import exports

FAST = qcomp.QuantizationConfig(recipe="fast")
SHAPE = (1, 3, 8, 8)


def network() -> onnx.ModelProto:
    """Means and deviations first, then layers of which some have 4 bits in `CONFIG`."""
    b = Builder(17)
    x = b(
        "Div", b("Sub", "image", [[[120.0]], [[110.0]], [[100.0]]]), [[[60.0]], [[50.0]], [[40.0]]]
    )
    x = b("Relu", b.norm(b.conv(x, (8, 3, 3, 3)), 8))
    x = b("Add", x, b("Relu", b.conv(x, (8, 1, 3, 3), group=8)))
    x = b("Sigmoid", b.conv(x, (8, 8, 1, 1)))
    x = b("Flatten", b("GlobalAveragePool", x))
    x = b("Gemm", x, b.normal(8, 5), b.normal(5))
    return b.model({"image": SHAPE}, [x])


CONFIG = qcomp.QuantizationConfig(recipe="fast", overrides={"conv2d": {"weight_bits": 4}})


def images(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [random.uniform(0, 255, SHAPE).astype(np.float32) for _ in range(count)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = qcomp.compile(network(), calibration=images(8), config=CONFIG, name="net")
    return net.save(tmp_path_factory.mktemp("exports") / "net")


@pytest.fixture(scope="module")
def net(saved: Path) -> qcomp.CompiledNetwork:
    return qcomp.load(saved)


def test_the_graph_of_a_directory_is_lowered_to_its_integers(net: qcomp.CompiledNetwork) -> None:
    assert net.qdq is not None
    given = Given(
        net.qdq, lambda graph: {}, lambda graph, ids: {}, lambda: pytest.fail("asks for data"), None
    )
    lowered = PassManager().run(net.qdq.clone(), LOWER.passes(net.config, given))
    assert str(lowered) == str(net.graph)
    for tensor in lowered.tensors():
        if tensor.data is not None:
            assert (tensor.data == net.graph.data(tensor.id)).all(), tensor.id


def test_weights_are_kept_as_integers(saved: Path, net: qcomp.CompiledNetwork) -> None:
    with np.load(saved / "net.qdq.npz", allow_pickle=False) as file:
        stored = [file[name] for name in file.files if name.startswith("c")]
    weights = [a for a in stored if a.ndim in (2, 4) and a.size > 24]
    assert weights
    assert {a.dtype.name for a in weights} == {"int8"}


def test_onnxruntime_gives_the_answers_of_the_code(
    net: qcomp.CompiledNetwork, tmp_path: Path
) -> None:
    net.export(tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 19
    kinds = {i.data_type for i in model.graph.initializer if not i.dims}
    assert TensorProto.UINT8 in kinds
    assert TensorProto.INT8 not in kinds
    session = exact_session(model.SerializeToString())
    (output,) = net.outputs
    for x in images(5):
        (got,) = session.run(None, {"image": x})
        assert_allclose(got, net(x), atol=2.01 * output.scale)


def test_litert_gives_the_answers_of_the_code(net: qcomp.CompiledNetwork, tmp_path: Path) -> None:
    notes = net.export(tmp_path / "net.tflite")
    assert notes == (
        "image: values are those inside of a conversion that the library's header computes",
    )
    model = (tmp_path / "net.tflite").read_bytes()
    for x in images(5):
        q = net.quantized(x)
        (got,) = reference(model, q)
        assert np.abs(got.astype(int) - net.run_integer(q)).max() <= 2


def test_encodings_are_of_the_float_model_beside_them(
    net: qcomp.CompiledNetwork, tmp_path: Path
) -> None:
    net.export(tmp_path / "net.json", "encodings")
    document = json.loads((tmp_path / "net.json").read_text())
    model = onnx.load(tmp_path / "net.onnx")
    assert document["version"] == "1.0.0"
    weights = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    names = {name for node in model.graph.node for name in (*node.input, *node.output)}
    activations, parameters = document["activation_encodings"], document["param_encodings"]
    assert {e["name"] for e in activations} <= names
    assert {e["bw"] for e in parameters} == {4, 8, 32}
    for entry in parameters:
        values = weights[entry["name"]].astype(np.float64)
        shape = (-1, *[1] * (values.ndim - 1))
        scale, offset = (np.array(entry[k]).reshape(shape) for k in ("scale", "offset"))
        q = np.rint(values / scale) - offset
        assert_allclose(scale * (q + offset), values, rtol=1e-5, atol=1e-6 * scale.max())
        assert q.min() >= 0
        assert q.max() < 2 ** entry["bw"]
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (got,) = session.run(None, {"image": images(1)[0]})
    assert_allclose(got, net(images(1)[0]), atol=0.05 * np.abs(got).max())


def test_a_table_goes_out_and_comes_in(net: qcomp.CompiledNetwork, tmp_path: Path) -> None:
    from onnxruntime.quantization.calibrate import load_tensors_data

    net.export(tmp_path / "ranges.json", "calibration-table")
    theirs = load_tensors_data(tmp_path / "ranges.json")
    ours = read_table((tmp_path / "ranges.json").read_text())
    assert {name: tuple(map(float, d.range_value)) for name, d in theirs.items()} == ours
    assert len(ours) == 9
    model = Builder(17)
    x = model("Relu", model.conv("x", (4, 3, 3, 3)))
    plain = model.model({"x": SHAPE}, [model("Sigmoid", x)])
    names = {"x": (-1.0, 3.0), x: (0.0, 2.5), plain.graph.output[0].name: (0.0, 1.0)}
    table = {n: {"lowest": low, "highest": high} for n, (low, high) in names.items()}
    (tmp_path / "table.json").write_text(json.dumps(table))
    made = qcomp.compile(plain, calibration=tmp_path / "table.json", config=FAST, name="plain")
    assert "ranges of 5 activations come from a calibration table of 3" in made.notes
    assert made.inputs[0].scale == pytest.approx(4 / 255)
    made.export(tmp_path / "again.json", "calibration-table")
    again = read_table((tmp_path / "again.json").read_text())
    for name, interval in names.items():
        assert_allclose(again[name], interval, atol=4 / 255)


def test_a_table_of_other_tensors_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text('{"other": {"lowest": 0, "highest": 1}}')
    with pytest.raises(qcomp.CalibrationError, match="names no tensor of the model: other"):
        qcomp.compile(network(), calibration=tmp_path / "table.json", config=FAST)


def test_a_table_that_leaves_out_what_nothing_tells_is_an_error(tmp_path: Path) -> None:
    b = Builder(17)
    model = b.model({"x": SHAPE}, [b("Sigmoid", b.conv("x", (4, 3, 3, 3)))])
    (tmp_path / "table.json").write_text('{"x": {"lowest": 0, "highest": 1}}')
    with pytest.raises(qcomp.CalibrationError, match="no interval is given for %"):
        qcomp.compile(model, calibration=tmp_path / "table.json", config=FAST)


@pytest.mark.parametrize(
    ("path", "format", "reason"),
    [
        ("net.bin", None, r"net.bin: no format; expected one of qdq, tflite, .*\.onnx \(qdq\)"),
        ("net.onnx", "onnx", "format 'onnx'; expected one of qdq"),
        ("net.onnx", "encodings", "the float model is written there; expected another suffix"),
    ],
)
def test_what_is_no_format_is_an_error(
    net: qcomp.CompiledNetwork, tmp_path: Path, path: str, format: str | None, reason: str
) -> None:
    with pytest.raises(qcomp.CompileError, match=reason):
        net.export(tmp_path / path, format)


def test_a_directory_of_an_earlier_version_says_so() -> None:
    with pytest.raises(qcomp.CompileError, match="an earlier version saved it"):
        exports.export(None, Path("net.onnx"), None)


def test_the_command_writes_every_format(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[Any]
) -> None:
    from qcomp.cli import main

    files = {"qdq": "a.onnx", "tflite": "a.tflite", "encodings": "e.json"}
    files["calibration-table"] = "t.json"
    options = [s for name, file in files.items() for s in (f"--{name}", str(tmp_path / file))]
    with pytest.raises(SystemExit) as ended:
        main(["export", str(saved), *options])
    assert ended.value.code == 0
    assert {f.name for f in tmp_path.iterdir()} == {*files.values(), "e.onnx"}
    assert "note: the encodings are of the float model" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["export", str(saved)])
    assert ended.value.code == 2
    assert "expected some of --qdq, --tflite" in capsys.readouterr().err
