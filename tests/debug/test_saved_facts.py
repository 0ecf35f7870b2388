"""What is told of a saved directory: facts in a terminal and as JSON, and one tensor's life."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qcomp
from qcomp.cli.facts import NARROW, cut, short, wrapped
from qcomp.debug.explain import MARKS, explain, life
from qcomp.debug.facts import Facts, steps_by_op
from qcomp.debug.names import tensor_named
from qcomp.ir.tensor import Mark

Command = Callable[..., Any]


def test_the_facts_are_those_of_the_network(digits: Path) -> None:
    net, facts = qcomp.load(digits), Facts.of(digits)
    assert [op.id for op in facts.ops] == [op.output for op in net.graph.ops()]
    for op in facts.ops:
        q = net.graph.tensor(op.id).qparams
        assert q is not None
        assert (op.scale, op.zero_point) == (q.scale, q.zero_point)
    assert facts.files == {f.name: f.stat().st_size for f in digits.iterdir()}


def test_every_op_has_a_kernel_is_a_view_or_is_computed_with_another(digits: Path) -> None:
    net = qcomp.load(digits)
    steps = steps_by_op(net)
    for op in Facts.of(digits).ops:
        if op.within is not None:
            assert op.kernels == ()
            assert steps[op.within].result == op.id
        elif not op.kernels:
            assert op.op == "reshape"
    for step in steps.values():
        assert all(0 <= begin < end <= net.arena_bytes for begin, end in step.arena)


def test_tensors_that_live_at_the_same_time_share_no_byte_of_the_arena(digits: Path) -> None:
    steps = [s for s in steps_by_op(qcomp.load(digits)).values() if s.arena and s.kernels]
    for i, a in enumerate(steps):
        for b in steps[i + 1 :]:
            if a.live[0] <= b.live[1] and b.live[0] <= a.live[1]:
                for begin, end in a.arena:
                    assert all(end <= other[0] or other[1] <= begin for other in b.arena)


def test_inspect_of_a_directory_fits_eighty_columns(qcomp_command: Command, digits: Path) -> None:
    outcome = qcomp_command("inspect", digits)
    assert outcome.status == 0
    assert max(map(len, outcome.out.splitlines())) <= NARROW
    for text in ("q_conv2d", "residual.q", "per_channel", "libdigits.a", "sqnr", "arena"):
        assert text in outcome.out


def test_inspect_of_a_directory_gives_json(qcomp_command: Command, digits: Path) -> None:
    found = json.loads(qcomp_command("inspect", digits, "--json").out)
    net = qcomp.load(digits)
    assert found["arena_bytes"] == net.arena_bytes
    assert found["settings"]["per_channel"] is True
    assert [op["id"] for op in found["ops"]][-1] == "logits.q"


def test_nothing_is_bound_in_a_directory(qcomp_command: Command, digits: Path) -> None:
    outcome = qcomp_command("inspect", digits, "--bind", "N=2")
    assert outcome.status == 2
    assert "nothing is left to bind" in outcome.err


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("stem.relu6.q", "stem.relu6.q"),
        ("%residual.q", "residual.q"),
        ("stem.relu6", "stem.relu6.q"),
        ("project.norm.norm", "project.norm.norm.q"),
        ("image", "image"),
    ],
)
def test_a_tensor_is_known_by_its_ids_and_by_the_name_in_the_model(
    digits: Path, name: str, id: str
) -> None:
    assert tensor_named(qcomp.load(digits), name) == id


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(
    qcomp_command: Command, digits: Path
) -> None:
    outcome = qcomp_command("explain", digits, "residul")
    assert outcome.status == 2
    assert "did you mean 'residual'?" in outcome.err


def test_every_tensor_has_a_life(digits: Path) -> None:
    net = qcomp.load(digits)
    for tensor in net.graph.tensors():
        told = dict(life(net, tensor.id))
        assert f"%{tensor.id}: {tensor.type}" in told["tensor"][0]
        assert ("constant" in told) is tensor.is_constant
        assert ("code" in told) is not tensor.is_constant


def test_the_life_of_a_result_goes_from_the_model_to_the_kernel(digits: Path) -> None:
    told = {heading: " ".join(sentences) for heading, sentences in explain(digits, "stem.relu6")}
    assert "the model's stem.relu6" in told["model"]
    assert "(0, 2, 3, 1)" in told["model"]
    assert "conv2d" in told["rounding"]
    assert "q_conv2d" in told["integers"]
    assert "multipliers" in told["integers"]
    assert "head-room" in told["integers"]
    assert "of the arena" in told["code"]
    assert "%residual.q (q_add)" in told["readers"]


def test_the_life_of_a_weight_tells_its_steps(digits: Path) -> None:
    told = {heading: " ".join(sentences) for heading, sentences in explain(digits, "stem.weight")}
    assert "144 numbers" in told["constant"]
    assert "(16 of them), 8 bits" in told["constant"]


def test_every_mark_is_put_into_words() -> None:
    assert set(MARKS) == set(Mark)


def test_lines_and_names_are_cut_as_the_terminal_wants() -> None:
    assert short("a/long/name", 8) == ".../name"
    assert short("name", 8) == "name"
    assert cut("1x112x112x96", 8) == "1x112x1…"
    lines = wrapped("  note: " + "word " * 40, 40).splitlines()
    assert all(len(line) <= 40 for line in lines)
    assert all(line.startswith(" " * 6) for line in lines[1:])
