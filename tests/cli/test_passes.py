"""`qcomp passes`, of a saved network and of a dump."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qcomp.cli import main

Command = Callable[..., Any]
Written = tuple[Path, Path]


@pytest.fixture(scope="module")
def written(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The directory of the digits, and that of the dump."""
    folder = tmp_path_factory.mktemp("passes")
    data = ["--calibration", examples / "digits_calibration.npz", "--recipe", "fast"]
    where = ["-o", folder / "digits", "--dump", folder / "dump"]
    with pytest.raises(SystemExit) as exit:
        main(["-q", *map(str, ["compile", examples / "digits.onnx", *where, *data])])
    assert not exit.value.code
    return folder / "digits", folder / "dump"


def test_the_table_has_a_row_for_each_pass_in_80_columns(
    qcomp_command: Command, written: Written
) -> None:
    for folder in written:
        out = qcomp_command("passes", folder).out
        assert max(map(len, out.splitlines())) <= 80
        assert " 1 fold-constants" in out
        assert "…" not in out
    records = [json.loads(qcomp_command("passes", d, "--json").out) for d in written]
    assert [r["name"] for r in records[0]] == [r["name"] for r in records[1]]
    assert all(r["seconds"] is None for r in records[0])
    assert all(r["seconds"] >= 0 for r in records[1])


def test_a_dump_measures_what_each_pass_moved(qcomp_command: Command, written: Written) -> None:
    _, dumped = written
    for record in json.loads(qcomp_command("passes", dumped, "--json").out):
        figures = {n: v for event in record["events"] for n, v in event["numbers"].items()}
        if record["gives"] == "float" and record["name"] != "recipe":
            assert figures["difference"] <= 1e-4 * figures["reach"]
        if record["gives"] in ("qdq", "integer"):
            assert 20 < figures["sqnr_db"] < 60


def test_a_dump_has_the_ratio_of_every_tensor_that_a_pass_moved(
    qcomp_command: Command, written: Written
) -> None:
    saved, dumped = (json.loads(qcomp_command("passes", d, "--json").out) for d in written)
    assert [record["tensors"] for record in saved] == [record["tensors"] for record in dumped]
    after: dict[str, float] = {}
    for record in dumped:
        after |= record["tensors"]
        if record["gives"] == "float":
            assert all(db == 120.0 or db > 90.0 for db in after.values())
    assert "logits" in after
    assert len(after) >= 10
    assert all(15.0 < db < 70.0 for db in after.values())
    moved = [record["name"] for record in dumped if record["tensors"]]
    told = qcomp_command("passes", written[1], "--pass", moved[-1]).out
    assert " tensors are nearer or farther now, the farthest:\n" in told


def test_one_pass_tells_every_event_with_the_line_of_its_op(
    qcomp_command: Command, written: Written
) -> None:
    by_name = qcomp_command("passes", written[0], "--pass", "fuse-activation").out
    assert "did  stem.relu6 into stem.norm.norm\n       %stem.relu6 = conv2d(" in by_name
    assert "  -%stem.relu6 = clamp(%stem.norm.norm)" in by_name
    names = [r["name"] for r in json.loads(qcomp_command("passes", written[0], "--json").out)]
    number = str(names.index("fuse-activation") + 1)
    assert qcomp_command("passes", written[0], "--pass", number).out == by_name


def test_mistakes_are_told(qcomp_command: Command, written: Written, tmp_path: Path) -> None:
    unknown = qcomp_command("passes", written[0], "--pass", "other")
    assert unknown.status == 2
    assert "no pass other: expected a name or a number of the table: fold-constants," in unknown.err
    assert qcomp_command("passes", tmp_path).status == 2
    (tmp_path / "passes.json.gz").write_bytes(b"no")
    assert "can't be read: it is no ledger of passes" in qcomp_command("passes", tmp_path).err
