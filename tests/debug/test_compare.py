"""A device's dump names the op that is wrong, and is believed in nothing else."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qcomp
from qcomp.debug.compare import compare_dump
from qcomp.debug.dump import MARK, read_dump, record
from qcomp.debug.pattern import pattern
from qcomp.ir.evaluate import evaluate_all
from qcomp.ir.graph import Graph
from qcomp.ir.numbering import activations
from qcomp.ir.ops import QConv2d
from qcomp.ir.tensor import constant
from qcomp.quant.qparams import QParams
from qcomp.runtime.network import CompiledNetwork
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit import requantize
from qcomp.targets.cpu.emit.builder import Value
from qcomp.targets.cpu.lower import graph as lowering
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.process.jit import load_objects
from qcomp.targets.cpu.target import CpuTarget
from tests.targets.conftest import host_isas

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def net(digits: Path) -> CompiledNetwork:
    return qcomp.load(digits)


@pytest.fixture(scope="module")
def dump(net: CompiledNetwork) -> bytes:
    """Of two runs that are right."""
    return device_dump(net.graph, host_isas()[0], runs=2)


def device_dump(code: Graph, isa: Isa, runs: int = 1) -> bytes:
    """What a tap writes of runs of a graph's code."""
    artifact = CpuTarget("one", (isa,)).tapped().emit(code, "net")
    entry, random = load_objects(artifact.files.values(), "net", 3), np.random.default_rng(7)
    told: list[bytes] = []
    for _ in range(runs):
        image = random.integers(-128, 128, (1, 1, 8, 8), np.int8)
        output = np.empty((1, 10), np.int8)
        entry.run_tapped(
            [image],
            [output],
            artifact.memory.allocated(),
            lambda number, data: told.append(record(number, data)),
        )
    return b"".join(told)


def compared(net: CompiledNetwork, content: bytes, folder: Path) -> Any:
    path = folder / "dump"
    path.write_bytes(content)
    return compare_dump(net, path)


def test_a_device_that_is_right_is_said_to_be(
    net: CompiledNetwork, dump: bytes, tmp_path: Path
) -> None:
    found = compared(net, dump, tmp_path)
    assert (found.runs, found.exact, dict(found.differing)) == (2, True, {})
    assert all(0.0 < share <= 1.0 for share in found.clipped.values())


def test_a_flipped_weight_of_a_device_is_named_with_its_channel(
    net: CompiledNetwork, tmp_path: Path
) -> None:
    op, code = net.graph.op("depthwise.relu6.q"), net.graph.clone()
    assert isinstance(op, QConv2d)
    weights = code.data(op.weight).copy()
    weights[11, 1, 1, 0] ^= 64
    code.update_tensor(constant(op.weight, weights))
    first = compared(net, device_dump(code, host_isas()[-1]), tmp_path).first
    assert first.tensor == op.output
    assert first.pattern.startswith("only channel 11 of 48 differs")
    assert list(first.operands) == ["expand.relu6.q"]
    assert first.ops[-1].startswith("%depthwise.relu6.q = q_conv2d(")
    assert first.expected[first.place] != first.got[first.place]


def test_a_wrong_zero_point_of_a_device_is_named(net: CompiledNetwork, tmp_path: Path) -> None:
    code = net.graph.clone()
    op, tensor = code.op("residual.q"), code.tensor("residual.q")
    assert tensor.qparams is not None
    off = tensor.qparams.zero_point + 3
    qparams = dataclasses.replace(tensor.qparams, zero_point=off)
    code.replace_op(dataclasses.replace(op, zero_point=off), qparams=qparams)
    for reader in code.consumers("residual.q"):
        code.replace_op(dataclasses.replace(reader, x_zero_point=off))
    first = compared(net, device_dump(code, host_isas()[-1]), tmp_path).first
    assert first.tensor == "residual.q"
    assert first.pattern == "all values are off by +3: as by another zero point or bias"


def test_a_wrong_rounding_in_one_kernel_of_a_device_is_named(
    net: CompiledNetwork, tmp_path: Path
) -> None:
    lowering_of, narrow = lowering.lowering_of, requantize._narrow

    def truncated(b: ir.IRBuilder, *operands: Any) -> Value:
        """Without the half that makes a shift round."""
        splat = requantize.splat
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                requantize,
                "splat",
                lambda type, lanes, n: splat(type, lanes, 0 if n == 1 << 14 else n),
            )
            return narrow(b, *operands)

    def wrong(graph: Graph, op: Any) -> Any:
        lower = lowering_of(graph, op)
        if op.id != "depthwise.relu6.q":
            return lower

        def lower_wrongly(state: Any, op: Any) -> None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(requantize, "_narrow", truncated)
                lower(state, op)

        return lower_wrongly

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lowering, "lowering_of", wrong)
        content = device_dump(net.graph, host_isas()[0])
    first = compared(net, content, tmp_path).first
    assert first.tensor == "depthwise.relu6.q"
    assert first.pattern == "values are off by 1, all down: as by another rounding"


def test_what_a_kernel_computes_together_is_told_together(
    net: CompiledNetwork, dump: bytes, tmp_path: Path
) -> None:
    """The convolution of the block is added to the input in one kernel, which tells of the sum."""
    numbers = {id: n for n, id in enumerate(activations(net.graph))}
    taps = CpuTarget("one", (host_isas()[-1],)).tapped().emit(net.graph, "net").taps
    assert taps is not None
    if "project.norm.norm.q" not in taps.missing[host_isas()[-1].name]:
        pytest.skip("no set of this machine fuses additions")
    content = bytearray(device_dump(net.graph, host_isas()[-1]))
    at = content.index(record(numbers["residual.q"], b"")[:12])
    content[at + 16 + 5] ^= 1
    first = compared(net, bytes(content), tmp_path).first
    assert [line.split(" ")[0] for line in first.ops] == ["%project.norm.norm.q", "%residual.q"]
    assert set(first.operands) == {"depthwise.relu6.q", "stem.relu6.q"}


@given(data=st.data())
def test_a_dump_that_is_cut_or_damaged_is_an_error_that_names_the_place(
    net: CompiledNetwork, dump: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("dump") / "dump"
    content = bytearray(dump)
    if data.draw(st.booleans()):
        end = data.draw(st.integers(0, len(content) - 1))
        content = content[:end]
    else:
        at = data.draw(st.integers(0, 31))
        content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    told = ""
    try:
        assert compare_dump(net, path).runs in (1, 2)  # cut between records, or another image
    except qcomp.ModelError as error:
        told = str(error)
    assert not told or "dump, byte " in told or "is empty" in told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "dump is empty"),
        (MARK[:5], "byte 0: the dump is cut in the head"),
        (b"x" * 16, "byte 0: expected a record"),
        (record(99, b""), "byte 0: tensor 99; digits has 12"),
        (record(0, bytes(63)), "byte 0: 63 bytes of tensor 0, %image, which has 64"),
        (record(0, bytes(64))[:50], "byte 0: the dump is cut: 34 of 64 bytes of tensor 0"),
        (record(1, bytes(64)), "begins with tensor 1"),
        (
            record(0, bytes(64)) + b"qcomptap\xff\xff\xff\xff\xff\xff\xff\xff",
            "byte 80: tensor 4294",
        ),
    ],
)
def test_what_is_no_dump_is_refused_by_name(
    net: CompiledNetwork, tmp_path: Path, content: bytes, told: str
) -> None:
    path = tmp_path / "dump"
    path.write_bytes(content)
    with pytest.raises(qcomp.ModelError, match=told):
        list(read_dump(path, net.graph))


def test_a_difference_counts_though_the_dump_is_cut_behind_it(
    net: CompiledNetwork, tmp_path: Path
) -> None:
    image = np.zeros((1, 1, 8, 8), np.int8)
    values = evaluate_all(net.graph, {"image": image})
    records = [
        record(n, np.ascontiguousarray(values[id]).tobytes())
        for n, id in enumerate(activations(net.graph))
    ]
    wrong = bytearray(records[2])
    wrong[-1] ^= 1
    content = b"".join([*records[:2], wrong, records[3][:-1]])
    assert compared(net, content, tmp_path).first.tensor == activations(net.graph)[2]
    with pytest.raises(qcomp.ModelError, match="the dump is cut"):
        compared(net, b"".join([*records[:3], records[3][:-1]]), tmp_path)


Q = QParams(0.1, 3)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda x: x + 2, "all values are off by +2"),
        (lambda x: np.where(np.arange(16) == 5, x - 7, x), "only channel 5 of 16 differs, by 7"),
        (lambda x: np.where(np.arange(16) < 2, x - 7, x), "only channels 0, 1 of 16 differ,"),
        (lambda x: np.where(x % 3 == 0, x + 1, x), "values are off by 1, all up"),
        (lambda x: x + np.where(x % 2 == 0, 1, -1), "values are off by 1, up and down"),
        (lambda x: x // 2, "values are off by "),
    ],
)
def test_patterns_point_to_causes(change: Any, told: str) -> None:
    expected = np.random.default_rng(0).integers(-100, 100, (1, 6, 6, 16))
    assert pattern(expected.astype(np.int8), change(expected).astype(np.int8), Q).startswith(told)


def test_the_command_names_the_op_and_writes_its_operands(
    qcomp_command: Command, digits: Path, net: CompiledNetwork, dump: bytes, tmp_path: Path
) -> None:
    path, arrays = tmp_path / "dump", tmp_path / "first.npz"
    path.write_bytes(dump)
    outcome = qcomp_command("compare", digits, "--device-dump", path, "-o", arrays)
    assert (outcome.status, "no value differs" in outcome.out) == (0, True)
    assert not arrays.exists()
    wrong = bytearray(dump)
    wrong[wrong.index(record(4, b"")[:12]) + 16 + 100] ^= 4
    path.write_bytes(bytes(wrong))
    outcome = qcomp_command("compare", digits, "--device-dump", path, "-o", arrays)
    assert outcome.status == 1
    assert "first op that differs, in run 0: tensor 4, %depthwise.relu6.q" in outcome.out
    assert "its operand %expand.relu6.q is as specified" in outcome.out
    with np.load(arrays) as stored:
        assert (stored["expected"] != stored["got"]).sum() == 1
        assert stored["operand expand.relu6.q"].shape == (1, 8, 8, 48)
    found = json.loads(qcomp_command("compare", digits, "--device-dump", path, "--json").out)
    assert found["first"]["tensor"] == "depthwise.relu6.q"
    assert found["differing"] == {"depthwise.relu6.q": 1}


def test_a_library_with_taps_is_compared_where_it_runs(
    qcomp_command: Command, digits: Path, examples: Path, tmp_path: Path
) -> None:
    outcome = qcomp_command("compare", digits)
    assert outcome.status == 2
    assert "compile it with --taps, or give a dump" in outcome.err
    net = qcomp.compile(examples / "digits.onnx", recipe="fast", name="digits", taps=True)
    outcome = qcomp_command("compare", net.save(tmp_path / "tapped"), "--samples", "1")
    assert outcome.status == 0
    assert "no value differs" in outcome.out
