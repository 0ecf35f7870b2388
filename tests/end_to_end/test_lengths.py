"""One library with a plan for each of several lengths, on the same weights."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from sequence_models import FEATURES, sequence_model, sequences

import qcomp
from qcomp.cli import main
from qcomp.config import QuantizationConfig
from qcomp.errors import CompileError, ModelError, TargetError, UnsupportedOp
from qcomp.ir.graph import computes_the_same
from qcomp.ir.ops import Quantize
from qcomp.runtime.interface import Interface, TensorInfo
from qcomp.runtime.plans import plan_of
from qcomp.runtime.verification import verify_directory
from qcomp.targets.cpu.isa import FAMILIES
from qcomp.targets.cpu.lower.graph import lower_graph, lower_lengths

LENGTHS = (8, 16, 32)
Nets = tuple[Any, Any]


def compiled(lengths: Any, **options: Any) -> Any:
    options = {"calibration": sequences(32, 16), "recipe": "fast", "name": "seq", **options}
    return qcomp.compile(sequence_model(), bind={"S": lengths}, **options)


@pytest.fixture(scope="module")
def nets() -> Nets:
    """Of all lengths, and of the largest alone."""
    return compiled(LENGTHS), compiled(32)


def arrays_equal(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("length", LENGTHS)
def test_each_plan_has_the_bits_of_its_specification(nets: Nets, length: int) -> None:
    net, _ = nets
    x = np.concatenate(sequences(length, 3))
    y, m = net(x)
    assert y.shape == (3, length, 16)
    assert m.shape == (3, 16)
    assert arrays_equal((y, m), net.specification(x))
    q = net.quantized(x)
    assert arrays_equal(net.run_integer({"x": q}).values(), net.specification_integer(q))
    (plan,) = (plan for plan in net.plans if plan.inputs[0].shape[-1] == length)
    assert arrays_equal((y, m), plan(x))


@pytest.mark.parametrize("length", LENGTHS)
def test_each_plan_is_near_to_the_floats(nets: Nets, length: int) -> None:
    model = sequence_model().SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for x in sequences(length, 4, seed=9):
        for ours, real in zip(nets[0](x), session.run(None, {"x": x}), strict=True):
            assert np.sum(real**2) > 50 * np.sum((ours - real) ** 2)  # 17 dB


def test_the_largest_is_the_network_that_is_compiled_alone(nets: Nets) -> None:
    net, alone = nets
    assert net.lengths == (32, 16, 8)
    assert str(net.graph) == str(alone.graph)
    assert computes_the_same(net.graph, alone.graph)
    x = sequences(32, 2)[1]
    assert arrays_equal(net(x), alone(x))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("length", [8, 16])
def test_a_shorter_plan_is_the_network_compiled_there_with_its_scales(
    length: int, bits: int, nets: Nets
) -> None:
    qdq = nets[0].qdq
    ranges = {}
    for op in qdq.ops():
        if isinstance(op, Quantize):
            q = qdq.tensor(op.output).qparams
            ranges[op.x] = {
                "range": (q.scale * (q.qmin - q.zero_point), q.scale * (q.qmax - q.zero_point))
            }
    config = QuantizationConfig(
        recipe="fast", activation_bits=bits, overrides=ranges, bias_correction=None, equalize=False
    )
    given = {"calibration": None, "recipe": None, "config": config}
    several, alone = compiled(LENGTHS, **given), compiled(length, **given)
    (plan,) = (plan for plan in several.plans if plan.inputs[0].shape[-1] == length)
    assert str(plan.graph) == str(alone.graph)
    assert computes_the_same(plan.graph, alone.graph)
    x = sequences(length, 1)[0]
    assert arrays_equal(several(x), alone(x))


def test_layers_of_16_bits_are_packed_alike_at_all_lengths() -> None:
    """Alone, a layer of 16 rows would take other blocks of channels than one of 128."""
    random = np.random.default_rng(0)
    weight = numpy_helper.from_array(random.normal(size=(384, 384)).astype(np.float32), "w")
    float_type = onnx.TensorProto.FLOAT
    x, y = (helper.make_tensor_value_info(n, float_type, [1, "S", 384]) for n in "xy")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "dense", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    samples = [random.normal(size=(1, 128, 384)).astype(np.float32) for _ in range(2)]
    config = QuantizationConfig(recipe="fast", activation_bits=16)
    options: dict[str, Any] = {"calibration": samples, "config": config}
    alone, net = (qcomp.compile(model, bind={"S": s}, **options) for s in (128, (16, 128)))
    assert net.artifact.memory.weights == alone.artifact.memory.weights
    for length in (16, 128):
        short = samples[0][:, :length]
        assert np.array_equal(net(short), net.specification(short))


def test_lengths_share_weights_and_memory(nets: Nets) -> None:
    net, alone = nets
    assert net.weights_bytes == alone.weights_bytes
    assert net.arena_bytes == alone.arena_bytes
    code, data = ([len(n.artifact.files[f]) for n in (net, alone)] for f in ("seq.o", "seq_data.o"))
    assert code[0] > code[1]
    assert 0 <= data[0] - data[1] <= 2 * 64  # what the library says of each further plan


def test_kernels_of_one_shape_are_there_once(nets: Nets) -> None:
    graphs = [plan.graph for plan in nets[0].plans]
    isa = FAMILIES["x86_64"][0]
    together = lower_lengths(graphs, [isa], "seq")
    each = [{c.kernel for c in lower_graph(graph, isa, "seq").calls} for graph in graphs]
    shared = {c.kernel for (program,) in together for c in program.calls}
    assert len(shared) < sum(map(len, each))
    again = lower_lengths([graphs[0], graphs[0]], [isa], "seq")
    assert [c.kernel for c in again[0][0].calls] == [c.kernel for c in again[1][0].calls]


@pytest.mark.few(1)
@pytest.mark.parametrize("target", ["x86-64", "arm64", "armv7", "wasm32", "x86-64-windows"])
def test_every_processor_has_a_run_for_each(target: str, tmp_path: Path) -> None:
    net = compiled((8, 32), target=target)
    text = net.artifact.sources["seq.h"]
    assert (
        "int seq_run_8(const int8_t *input, int8_t *output0, int8_t *output1, void *arena);" in text
    )
    assert net.lengths == (32, 8)
    linked = net.runtime.link(net.artifact, tmp_path)
    for library in filter(None, (linked.static, linked.shared)):
        assert b"seq_run_8" in (tmp_path / library).read_bytes()


def test_channels_that_were_smoothed_are_so_at_each_length() -> None:
    data = [x * np.geomspace(1, 30, FEATURES, dtype=np.float32)[:, None] for x in sequences(32, 16)]
    net = qcomp.compile(
        sequence_model(feed=True), bind={"S": LENGTHS}, calibration=data, recipe="fast"
    )
    assert any(".smooth" in op.id for op in net.qdq.ops())
    for length in LENGTHS:
        x = data[0][..., :length]
        assert arrays_equal(net(x), net.specification(x))


def test_masks_of_the_caller_exclude_what_is_padded() -> None:
    random = np.random.default_rng(3)
    samples = []
    for x in sequences(32, 16):
        mask = np.where(np.arange(32) < random.integers(8, 33), 0.0, -50.0)
        samples.append({"x": x, "mask": mask.astype(np.float32).reshape(1, 1, 32)})
    net = qcomp.compile(
        sequence_model(masked=True), bind={"S": (16, 32)}, calibration=samples, recipe="fast"
    )
    given = {"x": sequences(16, 1)[0], "mask": np.zeros((1, 1, 16), np.float32)}
    given["mask"][..., 12:] = -50.0
    assert arrays_equal(net(given).values(), net.specification(given).values())
    assert net(given)["y"].shape == (1, 16, 16)


PROGRAM = """\
#include "seq.h"
#include <stdio.h>
static uint8_t memory[SEQ_ARENA_BYTES + SEQ_ARENA_ALIGN];
static float x[SEQ_{0}_INPUT0_SIZE];
static int8_t q[SEQ_{0}_INPUT0_BYTES], y[SEQ_{0}_OUTPUT0_BYTES], m[SEQ_{0}_OUTPUT1_BYTES];
int main(void) {{
  static const int lengths[] = SEQ_LENGTHS;
  uint8_t *arena = memory + (SEQ_ARENA_ALIGN - (uintptr_t)memory % SEQ_ARENA_ALIGN);
  if (lengths[0] != 32 || seq_check() != QCOMP_OK) return 1;
  if (fread(x, sizeof *x, SEQ_{0}_INPUT0_SIZE, stdin) != SEQ_{0}_INPUT0_SIZE) return 2;
  seq_{0}_quantize_input(x, q);
  if (seq_run_{0}(q, y, m, arena + 1) != QCOMP_BAD_ARENA) return 3;
  if (seq_run_{0}(q, y, m, arena) != QCOMP_OK) return 4;
  fwrite(y, 1, sizeof y, stdout);
  fwrite(m, 1, sizeof m, stdout);
  return 0;
}}
"""


@pytest.mark.parametrize("length", LENGTHS)
def test_c_has_the_same_bits(nets: Nets, length: int, cc: str, tmp_path: Path) -> None:
    net, _ = nets
    net.save(tmp_path)
    (tmp_path / "main.c").write_text(PROGRAM.format(length))
    flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wshadow"]
    command = [cc, *flags, "main.c", "libseq.a", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    x = sequences(length, 1, seed=5)[0]
    done = subprocess.run(
        [tmp_path / "main"], input=x.tobytes(), capture_output=True, check=True
    ).stdout
    expected = net.specification_integer(net.quantized(x))
    assert done == b"".join(array.tobytes() for array in expected)


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no compiler of C++")
def test_the_header_is_clean_in_c_plus_plus(nets: Nets, tmp_path: Path) -> None:
    nets[0].save(tmp_path)
    text = '#include "seq.h"\nint run(void *a) { return seq_run_32(0, 0, 0, a); }\n'
    (tmp_path / "main.cpp").write_text(text, encoding="utf-8")
    flags = ["-std=c++98", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wno-long-long"]
    subprocess.run(["c++", *flags, "-c", "main.cpp"], cwd=tmp_path, check=True)


def test_a_directory_holds_all_plans(nets: Nets, tmp_path: Path) -> None:
    net, _ = nets
    net.save(tmp_path / "seq")
    loaded = qcomp.load(tmp_path / "seq")
    assert loaded.lengths == (32, 16, 8)
    for length in LENGTHS:
        x = sequences(length, 1)[0]
        assert arrays_equal(loaded(x), net(x))
        assert arrays_equal(copy.deepcopy(loaded)(x), net(x))
    report = verify_directory(tmp_path / "seq", samples=2)
    assert report.exact
    assert report.compared_values > 3 * 9 * 8 * 16
    with pytest.raises(ValueError, match="another build"):
        net.runtime.check(replace(net.artifact, plan=1), net.shorter[1].graph)
    sizes = [(tmp_path / "seq" / f"seq{n}.constants.npz").stat().st_size for n in ("", ".16", ".8")]
    assert 2 * sizes[1] < sizes[0]  # weights are stored once
    assert 2 * sizes[2] < sizes[0]
    (tmp_path / "seq" / "seq.8.graph.txt").unlink()
    with pytest.raises(ModelError, match=r"seq\.8\.graph\.txt is missing"):
        qcomp.load(tmp_path / "seq")


def test_plans_of_an_earlier_build_go(nets: Nets, tmp_path: Path) -> None:
    net, alone = nets
    net.save(tmp_path / "seq")
    (tmp_path / "seq" / "seq.8.mine").write_text("kept", encoding="utf-8")
    alone.save(tmp_path / "seq")
    left = sorted(f.name for f in (tmp_path / "seq").glob("seq.[0-9]*"))
    assert left == ["seq.8.mine"]
    assert qcomp.load(tmp_path / "seq").lengths == ()


@pytest.mark.parametrize("length", [7, 20, 64])
def test_a_length_that_is_none_names_those_that_are(nets: Nets, length: int) -> None:
    for call in (nets[0], nets[0].specification, nets[0].quantized):
        with pytest.raises(ValueError, match=r"\[1, 8, 32\].*\[1, 8, 16\].*\[1, 8, 8\]"):
            call(np.zeros((1, FEATURES, length), np.float32))


def test_the_axis_of_the_length_is_no_axis_of_samples() -> None:
    def plans(*sizes: int) -> list[Interface]:
        """Of one input [size, 3]."""
        infos = [TensorInfo("x", (n, 3), "int8", 1.0, 0, 3 * n, None) for n in sizes]
        return [Interface((info,), ()) for info in infos]

    assert [plan_of(plans(8, 4), [np.zeros((n, 3))]) for n in (8, 4)] == [0, 1]
    message = r"one of the lengths, x \[8, 3\]; x \[4, 3\]; got \[16, 3\]"
    with pytest.raises(ValueError, match=message):
        plan_of(plans(8, 4), [np.zeros((16, 3))])


def test_a_network_of_other_ops_at_another_size_is_refused() -> None:
    bind = {"N": (1, 4), "S": 8}  # transpositions of one sample are views
    with pytest.raises(CompileError, match=r"(?s)N = 1 beside 4: .*is another op, or none"):
        qcomp.compile(sequence_model(), bind=bind, calibration=sequences(8, 16), recipe="fast")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"taps": True}, "several lengths of S .8, 16 and 32. with taps"),
        ({"config": QuantizationConfig(states={"x": "y"})}, "with states"),
    ],
)
def test_what_has_one_length_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        compiled(LENGTHS, **options)


@pytest.mark.parametrize(
    ("bind", "message"),
    [
        ({"S": (8, 8)}, "expected different ones"),
        ({"S": ()}, "expected different ones"),
        ({"S": (8, 2.5)}, "whole numbers"),
        ({"S": (8, 16), "N": (1, 2)}, "several sizes"),
        ({"S": (8, 0)}, "can't be bound to 0"),
        ({"T": (8, 16)}, "no dynamic dimension is named 'T'"),
    ],
)
def test_lengths_that_are_none_are_refused(bind: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        qcomp.compile(sequence_model(), bind=bind, calibration=sequences(16, 2))


def test_one_length_in_a_list_is_one() -> None:
    net = compiled((16,), calibration=sequences(16, 16))
    assert net.lengths == ()


def test_a_target_with_one_length_says_so() -> None:
    class Plain:
        name = "plain"

    with pytest.raises(TargetError, match="plain has one length in a library"):
        compiled(LENGTHS, target=Plain())


def test_exports_are_of_one_length(nets: Nets, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOp, match="32, 16, 8"):
        nets[0].export(tmp_path / "seq.onnx")


def test_a_constant_beyond_what_its_scale_was_chosen_for_is_named() -> None:
    model = sequence_model(by_length=True)
    with pytest.raises(CompileError, match=r"(?s)S = 8 beside 16: .*%near follows the length"):
        qcomp.compile(model, bind={"S": (8, 16)}, calibration=sequences(16, 16), recipe="fast")


def test_the_command_line_takes_lengths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(sequence_model(), tmp_path / "seq.onnx")
    np.save(tmp_path / "data.npy", np.concatenate(sequences(16, 16)))
    given = ["compile", str(tmp_path / "seq.onnx"), "-o", str(tmp_path / "out"), "--recipe", "fast"]
    given += ["--calibration", str(tmp_path / "data.npy"), "--bind"]
    for lengths, status in (("S=8,16", 0), ("S=8,8", 2), ("S=8,", 2), ("S=8,x", 2)):
        with pytest.raises(SystemExit) as left:
            main([*given, lengths])
        assert left.value.code == status
    assert "a plan for each of 8 and 16 of S, on the same weights" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "out" / "seq.manifest.json").read_text())
    assert manifest["lengths"] == [16, 8]
    assert verify_directory(tmp_path / "out", samples=1).exact
