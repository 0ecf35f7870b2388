"""What `compile` gives: calls, batches, inputs and outputs, names, dumps, other machines."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from onnx import TensorProto

import qcomp
from qcomp.names import LONGEST_NAME, c_name
from qcomp.targets.cpu.library.archive import members
from qcomp.targets.cpu.library.link import static_library

Network = qcomp.CompiledNetwork

FAST = qcomp.QuantizationConfig(recipe="fast")  # for tests that don't ask what "auto" would choose


def test_the_library_equals_the_specification_on_digits(digits: Path, examples: Path) -> None:
    net = qcomp.load(digits)
    with np.load(examples / "digits_test.npz") as data:
        images, labels = data["images"][:200], data["labels"][:200]
    logits = net(images)
    assert logits.dtype == np.float32
    assert_array_equal(logits, net.specification(images))
    assert np.mean(logits.argmax(1) == labels) > 0.95


@pytest.mark.parametrize("batch", [1, 3])
def test_the_first_axis_may_hold_any_multiple_of_the_batch(models: Any, batch: int) -> None:
    net = qcomp.compile(models.dense(batch), calibration=models.samples(8, batch, 4), config=FAST)
    x = np.concatenate(models.samples(4, batch, 4, seed=5))
    y = net(x)
    assert y.shape == (4 * batch, 3)
    assert_array_equal(y, net.specification(x))
    assert_array_equal(y, np.concatenate([net(x[i : i + batch]) for i in range(0, len(x), batch)]))


def test_a_dynamic_batch_is_bound_by_name(models: Any) -> None:
    net = qcomp.compile(
        models.dense("N"), calibration=models.samples(8, 2, 4), config=FAST, bind={"N": 2}
    )
    assert net.inputs[0].shape == (2, 4)
    with pytest.raises(ValueError, match="3 samples are no multiple of 2"):
        net(np.zeros((3, 4), np.float32))


def test_integers_run_as_they_are(dense: Network) -> None:
    q = np.array([[-128, 127, 0, 5]], np.int8)
    raw = dense.run_integer(q)
    assert raw.dtype == np.int8
    assert_array_equal(raw, dense.specification_integer(q))
    info = dense.outputs[0]
    real = (raw.astype(np.float32) - info.zero_point) * np.float32(info.scale)
    assert_array_equal(real, info.dequantized(raw))


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
def test_a_call_rounds_as_the_specification_does(dense: Network, kind: type) -> None:
    info = dense.inputs[0]
    ends = (np.array(info.limits, float) - info.zero_point + [[-0.5], [0.5]]) * info.scale
    special = [np.nan, np.inf, -np.inf, np.finfo(kind).max, 0.5 * info.scale, -1.5 * info.scale]
    values = np.array([*ends.ravel(), *special, 0.0, 1.0], kind).reshape(-1, 4)
    for x in values:
        assert_array_equal(dense(x[None]), dense.specification(x[None]))
    assert_array_equal(dense(values), np.concatenate([dense(x[None]) for x in values]))


def test_results_stay_when_the_buffers_of_a_call_are_used_again(dense: Network) -> None:
    x = np.array([[1, 2, 3, 4]], np.float32)
    first, q = dense(x), dense.run_integer(dense.quantized(x))
    kept = first.copy(), q.copy()
    assert (dense(-x) != first).any()
    assert_array_equal(first, kept[0])
    assert_array_equal(q, kept[1])


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int32, np.uint8])
def test_any_kind_of_number_is_taken(dense: Network, kind: type) -> None:
    x = np.array([[0, 1, 2, 3]], kind)
    assert_array_equal(dense(x), dense(x.astype(np.float32)))
    assert_array_equal(dense([x.tolist()]), dense(x.astype(np.float32)))


def test_strided_input_gives_the_same_bits(dense: Network) -> None:
    x = np.random.default_rng(3).normal(size=(4, 6)).astype(np.float32)
    assert_array_equal(dense(x[:, ::-1].T[:4].T), dense(np.ascontiguousarray(x[:, :1:-1])))


def test_a_dict_gives_a_dict_and_a_sequence_a_tuple(pair: Network) -> None:
    a, b = np.linspace(-2, 2, 10, dtype=np.float32).reshape(2, 1, 5)
    answer = pair({"b": b, "a": a})
    assert list(answer) == ["sum", "product"]
    as_tuple = pair((a, b))
    assert isinstance(as_tuple, tuple)
    for array, name in zip(as_tuple, answer, strict=True):
        assert_array_equal(array, answer[name])
        assert_array_equal(array, pair.specification({"a": a, "b": b})[name])
    one_percent = np.abs(as_tuple[0] - (a + b)).max() / np.abs(a + b).max()
    assert one_percent < 0.05


def test_outputs_of_one_input_are_a_dict_when_it_was_one(dense: Network) -> None:
    x = np.ones((1, 4), np.float32)
    assert_array_equal(dense({"x": x})["y"], dense(x))


def test_truth_values_are_0_and_1(dense: Network) -> None:
    x = np.array([[True, False, True, True]])
    assert_array_equal(dense(x), dense(x.astype(np.float32)))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((1, 5), np.float32), r"input x: expected \[1, 4\]"),
        (np.zeros(4, np.float32), r"input x: expected \[1, 4\]"),
        (np.zeros((0, 4), np.float32), "0 samples"),
        (np.zeros((1, 4), np.complex64), "expected numbers, got complex64"),
        (np.array([["a"] * 4]), "expected numbers, got <U1"),
        ({"z": np.zeros((1, 4))}, r"expected the inputs \['x'\], got \['z'\]"),
        ((np.zeros((1, 4)), np.zeros((1, 4))), r"expected 1 inputs \['x'\], got 2"),
        (3.0, r"input x: expected \[1, 4\]"),
    ],
)
def test_what_does_not_fit_is_a_value_error(dense: Network, x: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dense(x)
    with pytest.raises(ValueError, match=message):
        dense.specification(x)


def test_integer_code_takes_int8_only(dense: Network) -> None:
    with pytest.raises(ValueError, match="input x: expected int8, got int32"):
        dense.run_integer(np.zeros((1, 4), np.int32))


def test_inputs_hold_the_same_number_of_samples(pair: Network) -> None:
    with pytest.raises(ValueError, match="different numbers of samples"):
        pair((np.zeros((2, 5)), np.zeros((3, 5))))


def test_what_is_no_finite_number_has_an_answer(dense: Network) -> None:
    x = np.array([[np.nan, np.inf, -np.inf, 1e39], [0, 3e38, -3e38, -1e-42]], np.float64)
    assert_array_equal(dense(x), dense.specification(x))
    info = dense.inputs[0]
    q = dense.quantized(x)
    assert_array_equal(
        q, [[info.zero_point, 127, -128, 127], [info.zero_point, 127, -128, info.zero_point]]
    )


def test_argmax_gives_int32_indices(models: Any) -> None:
    node = models.node("ArgMax", ["x"], ["y"], axis=1, keepdims=0)
    model = models.build([node], {"x": [1, 7]}, {"y": [1]}, output_type=TensorProto.INT64)
    net = qcomp.compile(model, calibration=models.samples(8, 1, 7), config=FAST)
    x = np.concatenate(models.samples(20, 1, 7, seed=1))
    assert net(x).dtype == np.int32
    assert_array_equal(net(x), net.specification(x))
    assert np.mean(net(x) == x.argmax(1)) > 0.9
    assert any("i32" in note for note in net.notes)
    assert net.sqnr_db_output is None


def test_an_input_that_nothing_reads_is_still_an_argument(models: Any) -> None:
    model = models.build(
        [models.node("Relu", ["x"], ["y"])], {"u": [1, 3], "x": [1, 2]}, {"y": [1, 2]}
    )
    data = [
        {"u": u, "x": x}
        for u, x in zip(models.samples(3, 1, 3), models.samples(3, 1, 2), strict=True)
    ]
    net = qcomp.compile(model, calibration=data, config=FAST)
    assert [i.name for i in net.inputs] == ["u", "x"]
    assert_array_equal(net(data[0])["y"], net.specification(data[0])["y"])


def test_one_tensor_under_two_output_names(models: Any) -> None:
    nodes = [models.node("Relu", ["x"], ["y"]), models.node("Identity", ["y"], ["z"])]
    model = models.build(nodes, {"x": [1, 4]}, {"y": [1, 4], "z": [1, 4]})
    net = qcomp.compile(model, calibration=models.samples(4, 1, 4), config=FAST)
    y, z = net(np.ones((1, 4), np.float32))
    assert_array_equal(y, z)
    assert y.any()


@pytest.mark.parametrize(
    ("nodes", "outputs", "message"),
    [
        ([("Relu", "x", "y")], {"y": [1, 4], "x": [1, 4]}, "output 'x' is an input"),
        ([("Det", "x", "y")], {"y": [1]}, "Det"),
    ],
)
def test_models_outside_the_accepted_ones_are_unsupported(
    models: Any, nodes: list[tuple[str, str, str]], outputs: Any, message: str
) -> None:
    built = [models.node(op, [x], [y]) for op, x, y in nodes]
    with pytest.raises(qcomp.UnsupportedOp, match=message):
        qcomp.compile(models.build(built, {"x": [1, 4]}, outputs), calibration=[])


def test_a_tensor_of_more_axes_than_a_description_has(models: Any) -> None:
    shape = [1] * 8 + [3]
    model = models.build([models.node("Relu", ["x"], ["y"])], {"x": shape}, {"y": shape})
    with pytest.raises(qcomp.TargetError, match="x has rank 9; accepted: up to 8"):
        qcomp.compile(model, calibration=models.samples(2, *shape))


@pytest.mark.parametrize("target", ["x86-64", "aarch64"])
def test_other_targets_give_an_archive_and_a_header(
    models: Any, target: str, tmp_path: Path
) -> None:
    net = qcomp.compile(
        models.dense(), target, calibration=models.samples(8, 1, 4), config=FAST, name="other"
    )
    folder = net.save(tmp_path / "out")
    objects = members((folder / "libother.a").read_bytes())
    machine = {"x86-64": 62, "aarch64": 183}[target]  # e_machine of the ELF header
    assert list(objects) == ["other.o", "other_data.o"]
    for content in objects.values():
        assert content[:4] == b"\x7fELF"
        assert int.from_bytes(content[18:20], "little") == machine
    assert "other_run(" in (folder / "other.h").read_text()
    assert qcomp.load(folder).isa == net.isa
    assert len(net.isa) == {"x86-64": 5, "aarch64": 1}[target]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the ladder is of x86-64")
@pytest.mark.parametrize("saved", [False, True])
def test_a_library_of_all_x86_runs_each_that_the_machine_has(
    models: Any, saved: bool, tmp_path: Path
) -> None:
    net = qcomp.compile(
        models.dense(), "x86-64", calibration=models.samples(8, 1, 4), config=FAST, name="all"
    )
    if saved:
        net = qcomp.load(net.save(tmp_path / "out"))
    x = models.samples(5, 1, 4)[0]
    expected = net.specification(x)
    assert set(net.runnable_isas()) <= set(net.isa)
    for isa in (*net.runnable_isas(), None):
        net.use_isa(isa)
        assert_array_equal(net(x), expected)
    with pytest.raises(qcomp.TargetError, match=r"no code for neon, only for sse4\.1, avx2"):
        net.use_isa("neon")
    for isa in set(net.isa) - set(net.runnable_isas()):
        with pytest.raises(qcomp.TargetError, match=f"this machine does not run {isa}"):
            net.use_isa(isa)


@pytest.mark.skipif(platform.machine() == "aarch64", reason="this machine runs aarch64 code")
def test_code_for_another_machine_does_not_run_here(models: Any) -> None:
    net = qcomp.compile(models.dense(), "aarch64", calibration=models.samples(8, 1, 4), config=FAST)
    x = np.ones((1, 4), np.float32)
    assert net.specification(x).shape == (1, 3)
    with pytest.raises(qcomp.TargetError, match="can't run on this machine"):
        net(x)


def test_an_unknown_target_is_answered_with_the_names(models: Any) -> None:
    with pytest.raises(qcomp.TargetError, match="'arm7'; expected one of native, x86-64, sse4"):
        qcomp.compile(models.dense(), "arm7", calibration=models.samples(1, 1, 4))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mobilenet_v2", "mobilenet_v2"),
        ("resnet-50 v1.5", "resnet_50_v1_5"),
        ("7zip", "net_7zip"),
        ("_Reserved", "net__Reserved"),
        ("stdint", "net_stdint"),
        ("Time", "net_Time"),
        ("größe", "gr__e"),
        ("int", "int"),
        ("main", "main"),
        ("m", "net_m"),  # -lm would find libm.a
        ("GCC", "net_GCC"),
    ],
)
def test_names_become_c_identifiers(text: str, name: str) -> None:
    assert c_name(text) == name


@pytest.mark.parametrize(
    ("text", "message"),
    [("модель", "gives no C identifier"), ("---", "give a name"), ("a" * 101, "up to 100")],
)
def test_names_that_can_not_become_one(text: str, message: str) -> None:
    assert LONGEST_NAME == 100
    with pytest.raises(qcomp.CompileError, match=message):
        c_name(text)


@pytest.mark.parametrize("name", ["main", "while", "template", "math", "a" * LONGEST_NAME])
def test_a_network_of_any_name_can_be_saved_and_loaded(
    models: Any, name: str, tmp_path: Path
) -> None:
    net = qcomp.compile(models.dense(), calibration=models.samples(4, 1, 4), config=FAST, name=name)
    x = np.ones((1, 4), np.float32)
    assert_array_equal(qcomp.load(net.save(tmp_path / "out"))(x), net(x))


def test_the_name_is_that_of_the_model_file(models: Any, tmp_path: Path) -> None:
    path = tmp_path / "my-net.onnx"
    path.write_bytes(models.dense().SerializeToString())
    for model, name in ((path, "my_net"), (path.read_bytes(), "network")):
        net = qcomp.compile(model, calibration=models.samples(2, 1, 4), config=FAST)
        assert net.name == name


def test_the_dump_has_text_log_and_diff_of_each_pass(models: Any, tmp_path: Path) -> None:
    dump = tmp_path / "deep" / "dump"
    net = qcomp.compile(models.conv_with_batch_norm(), dump=dump)
    assert (dump / "00-import.txt").read_text().startswith("graph @")
    for number, record in enumerate(net.records, start=1):
        for suffix in ("log",) if record.name == "recipe" else ("txt", "log", "diff"):
            assert (dump / f"{number:02d}-{record.name}.{suffix}").is_file()
    assert (dump / f"{len(net.records):02d}-{net.records[-1].name}.txt").read_text().strip() == str(
        net.graph
    )


@pytest.mark.parametrize("with_data", [True, False])
def test_the_dump_says_how_much_each_float_pass_moves_the_outputs(
    models: Any, tmp_path: Path, with_data: bool
) -> None:
    data = models.samples(4, 1, 2, 6, 6) if with_data else None
    config = qcomp.QuantizationConfig(equalize=True, absorb_bias=True, per_channel=False)
    net = qcomp.compile(
        models.conv_with_batch_norm(), calibration=data, config=config, dump=tmp_path
    )
    compared = {r.name: r.log.text for r in net.records if "max difference of" in r.log.text}
    assert {"fold-batch-norm", "equalize-cross-layer", "absorb-high-bias"} <= set(compared)
    assert "insert-quantize" not in compared
    text = "".join(path.read_text() for path in tmp_path.glob("*-equalize-cross-layer.log"))
    found = re.search(r"note max difference of the outputs (\S+), values up to (\S+)", text)
    assert found is not None
    assert float(found[1]) < 1e-5 * float(found[2])


def test_a_dump_that_can_not_be_written(models: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here first")
    for dump in (tmp_path / "file", tmp_path / "file" / "dump"):
        with pytest.raises(qcomp.OutputError, match=r"can't write .*00-import\.txt"):
            qcomp.compile(models.conv_with_batch_norm(), dump=dump)


def test_two_compilations_give_the_same_archive(models: Any) -> None:
    def build() -> bytes:
        data = models.samples(8, 1, 2, 6, 6)
        net = qcomp.compile(
            models.conv_with_batch_norm(), calibration=data, config=FAST, name="twice"
        )
        texts = (*net.artifact.sources.values(), str(net.graph))
        return static_library(net.artifact) + "".join(texts).encode()

    assert build() == build()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"range": "exact"}, "range='exact': expected one of 'auto', 'mse', 'minmax'"),
        ({"bias_correction": "yes"}, "expected one of 'auto', 'empirical', 'analytic', None"),
    ],
)
def test_choices_that_do_not_exist(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(qcomp.CompileError, match=message):
        qcomp.QuantizationConfig(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"range": "minmax"},
        {"range": "percentile"},
        {"range": "ema"},
        {"per_channel": False},
        {"symmetric_activations": True},
        {"equalize": False},
        {"per_channel": False, "equalize": False},
        {"bias_correction": None},
        {"bias_correction": "analytic"},
        {"snap_scales": False},
    ],
)
def test_every_choice_compiles_to_its_specification(models: Any, fields: dict[str, Any]) -> None:
    config = qcomp.QuantizationConfig(recipe="fast", **fields)
    data = models.samples(8, 1, 2, 6, 6)
    net = qcomp.compile(models.conv_with_batch_norm(), calibration=data, config=config)
    assert_array_equal(net(data[0]), net.specification(data[0]))
    assert net.sqnr_db_output is not None
    assert net.sqnr_db_output > 15
    if config.symmetric_activations:
        assert {info.zero_point for info in net.inputs} == {0}


def _iterator(folder: Path, data: list[Any]) -> Any:
    return iter(data)


def _dicts(folder: Path, data: list[Any]) -> Any:
    return [{"x": a} for a in data]


def _npz(folder: Path, data: list[Any]) -> Any:
    np.savez(folder / "data.npz", x=np.concatenate(data))
    return folder / "data.npz"


def _directory(folder: Path, data: list[Any]) -> Any:
    for i, a in enumerate(data):
        np.save(folder / f"{i}.npy", a)
    return str(folder)


@pytest.mark.parametrize("source", [_iterator, _dicts, _npz, _directory])
def test_calibration_data_may_come_from_anywhere(
    models: Any, dense: Network, source: Callable[[Path, list[Any]], Any], tmp_path: Path
) -> None:
    data = source(tmp_path, models.samples(8, 1, 4))
    net = qcomp.compile(models.dense(), calibration=data, config=FAST, name="dense")
    assert str(net.graph) == str(dense.graph)
    assert "calibrated on 8 samples" in net.notes


def test_without_data_ranges_come_from_batch_norm_and_notes_say_so(models: Any) -> None:
    net = qcomp.compile(models.conv_with_batch_norm())
    notes = "\n".join(net.notes)
    assert "ranges come from batch-norm statistics" in notes
    assert "input x: assumed to be in [-1, 1]" in notes
    x = models.samples(1, 1, 2, 6, 6)[0]
    assert_array_equal(net(x), net.specification(x))
    (correction,) = (r for r in net.records if r.name == "correct-bias")
    assert correction.log.count("did") > 0


def test_without_data_and_without_batch_norm_the_error_says_what_to_give(models: Any) -> None:
    with pytest.raises(qcomp.CalibrationError, match="give calibration data: an iterable"):
        qcomp.compile(models.dense())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "calibration data is empty"),
        ([np.zeros((1, 5), np.float32)], r"expected \(N, 4\)"),
        ([np.full((1, 4), np.nan, np.float32)], "NaN"),
        ([{"z": np.zeros((1, 4), np.float32)}], "no array for input x"),
        (3, "calibration data is a int"),
        ("nowhere.npz", "does not exist"),
    ],
)
def test_calibration_data_that_does_not_fit(models: Any, data: Any, message: str) -> None:
    with pytest.raises(qcomp.CalibrationError, match=message):
        qcomp.compile(models.dense(), calibration=data)
