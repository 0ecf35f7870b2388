"""The pass manager: it works on a copy, sweeps, verifies, dumps, and says which pass failed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from qcomp.errors import CalibrationError, PassError, VerifyError
from qcomp.ir import DType, Form, Graph, TensorType, parse
from qcomp.ir.evaluate import evaluate
from qcomp.ir.ops import NO_CLAMP, RELU, Clamp, Function, Unary
from qcomp.passes.base import PassManager, run_pass
from qcomp.passes.events import EventKind, PassLog
from qcomp.passes.observers import Dump, OutputDifference, Records, Tape


@dataclass(frozen=True)
class DropClamps:
    """Bypasses clamps and leaves them, unread, for the manager to sweep."""

    name: ClassVar[str] = "drop-clamps"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    def run(self, graph: Graph, log: PassLog) -> None:
        for op in graph.ops():
            if isinstance(op, Clamp) and op.clamp.is_none:
                graph.replace_uses(op.output, op.x)
                log.did(f"{op.id} dropped")
            elif isinstance(op, Clamp):
                log.skipped(op.id, "it clamps")
        log.note("looked at all clamps")


@dataclass(frozen=True)
class Refuse:
    name: ClassVar[str] = "refuse"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    def run(self, graph: Graph, log: PassLog) -> None:
        raise PassError(f"%{graph.ops()[0].id} is not to my taste")


@dataclass(frozen=True)
class Break:
    name: ClassVar[str] = "break"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    def run(self, graph: Graph, log: PassLog) -> None:
        type = TensorType(DType.F32, (99,))
        graph.update_tensor(replace(graph.tensor("b"), type=type))


@dataclass(frozen=True)
class PromiseRanges:
    name: ClassVar[str] = "promise-ranges"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.ANNOTATED

    def run(self, graph: Graph, log: PassLog) -> None:
        pass


@dataclass(frozen=True)
class Negate:
    """Changes the function."""

    name: ClassVar[str] = "negate"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    def run(self, graph: Graph, log: PassLog) -> None:
        unary = Unary(inputs=("b",), output="n", function=Function.AFFINE, alpha=-1.0)
        graph.outputs["y"] = graph.add_op(unary)


@dataclass(frozen=True)
class NeedsData:
    name: ClassVar[str] = "needs-data"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    def run(self, graph: Graph, log: PassLog) -> None:
        raise CalibrationError("no data")


def example() -> Graph:
    graph = Graph("example")
    graph.add_input("x", TensorType(DType.F32, (4,)))
    graph.add_op(Clamp(inputs=("x",), output="a", clamp=NO_CLAMP))
    graph.add_op(Clamp(inputs=("a",), output="b", clamp=RELU))
    graph.outputs["y"] = "b"
    return graph


def test_the_caller_s_graph_is_never_touched() -> None:
    graph = example()
    before = str(graph)
    manager = PassManager()
    after = manager.run(manager.begin(graph, Form.FLOAT), [DropClamps()])
    assert [op.id for op in after.ops()] == ["b"]
    assert str(graph) == before


def test_what_a_pass_leaves_unread_is_swept() -> None:
    after, _ = run_pass(example(), DropClamps())
    assert "a" not in after
    assert after.op("b").inputs == ("x",)


def test_the_log_tells_what_was_done_declined_and_noted() -> None:
    _, log = run_pass(example(), DropClamps())
    assert log.text == "did  a dropped\nskip b: it clamps\nnote looked at all clamps"
    assert [log.count(kind) for kind in ("did", "skip", "note")] == [1, 1, 1]


def test_an_event_has_its_op_or_tensor_reason_and_figures_and_prints_as_a_line() -> None:
    log = PassLog()
    log.did("a moved by 2", op="a", steps=np.float64(2.0))
    log.skipped("b", "it clamps")
    log.skipped_tensor("t", "it is read")
    log.declined("all of this", "worse", db=1.5)
    assert log.lines == [
        "did  a moved by 2",
        "skip b: it clamps",
        "skip t: it is read",
        "skip all of this: worse",
    ]
    assert [(e.op, e.tensor, e.reason) for e in log.events] == [
        ("a", None, ""),
        ("b", None, "it clamps"),
        (None, "t", "it is read"),
        (None, None, "worse"),
    ]
    assert [dict(e.numbers) for e in log.events] == [{"steps": 2.0}, {}, {}, {"db": 1.5}]


def test_what_an_event_tells_does_not_change_its_kind() -> None:
    log = PassLog()
    log.note("did  nothing")
    assert log.count(EventKind.DID) == 0
    assert log.count(EventKind.NOTE) == 1


def test_records_keep_names_logs_and_times_in_order() -> None:
    manager = PassManager()
    graph = manager.begin(example(), Form.FLOAT)
    manager.run(graph, [DropClamps()])
    manager.run(graph, [DropClamps()])
    assert [r.name for r in manager.records] == ["drop-clamps", "drop-clamps"]
    assert [r.log.count("did") for r in manager.records] == [1, 0]
    assert all(r.seconds >= 0 for r in manager.records)


def test_dumps_are_numbered_texts_logs_and_differences(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "dump"
    manager = PassManager([Dump(directory)])
    graph = manager.begin(example(), Form.FLOAT)
    manager.run(graph, [DropClamps()])
    manager.run(graph, [DropClamps()])
    assert sorted(p.name for p in directory.iterdir()) == [
        "00-import.txt",
        "01-drop-clamps.diff",
        "01-drop-clamps.log",
        "01-drop-clamps.txt",
        "02-drop-clamps.diff",
        "02-drop-clamps.log",
        "02-drop-clamps.txt",
    ]
    text = {p.name: p.read_text(encoding="utf-8") for p in directory.iterdir()}
    assert text["00-import.txt"] == str(example()) + "\n"
    assert text["01-drop-clamps.txt"] == str(graph) + "\n"
    assert str(parse(text["01-drop-clamps.txt"])) == str(graph)
    assert text["01-drop-clamps.log"] == manager.records[0].log.text + "\n"
    changes = [
        line for line in text["01-drop-clamps.diff"].splitlines() if line[:2] in ("- ", "+ ")
    ]
    none = "{clamp=ClampRange(low=-inf, high=inf)}"
    relu = "{clamp=ClampRange(low=0.0, high=inf)}"
    assert changes == [
        f"-  %a = clamp(%x) {none} : f32[4]",
        f"-  %b = clamp(%a) {relu} : f32[4]",
        f"+  %b = clamp(%x) {relu} : f32[4]",
    ]
    assert text["02-drop-clamps.diff"] == "\n"


def test_a_pass_that_refuses_is_named_with_the_passes_before_it() -> None:
    manager = PassManager()
    graph = manager.begin(example(), Form.FLOAT)
    with pytest.raises(PassError) as caught:
        manager.run(graph, [DropClamps(), DropClamps(), Refuse(), DropClamps()])
    assert str(caught.value) == (
        "pass refuse failed: %b is not to my taste\n(passes already run: drop-clamps, drop-clamps)"
    )
    assert [r.name for r in manager.records] == ["drop-clamps", "drop-clamps"]


def test_a_pass_that_breaks_the_graph_is_named_with_the_verifier_s_words() -> None:
    with pytest.raises(PassError) as caught:
        run_pass(example(), Break())
    message = str(caught.value)
    assert message.startswith("pass break left a broken graph: graph @example is not in form float")
    assert "%b = clamp(%a)" in message
    assert message.endswith("(passes already run: none)")
    assert isinstance(caught.value.__cause__, VerifyError)


def test_the_promised_form_is_checked() -> None:
    with pytest.raises(PassError, match=r"promise-ranges left a broken graph: .*\n.* has no range"):
        run_pass(example(), PromiseRanges())


def test_a_graph_that_is_not_in_the_form_it_claims_is_refused_at_the_start() -> None:
    with pytest.raises(VerifyError, match="is not in form annotated"):
        PassManager().begin(example(), Form.ANNOTATED)


def test_constants_are_shared_with_the_copy() -> None:
    graph = example()
    k = graph.add_constant("k", np.ones(3, np.float32))
    assert PassManager().begin(graph, Form.FLOAT).data(k) is graph.data(k)


def test_the_log_says_by_how_much_a_pass_moves_the_outputs() -> None:
    graph = example()
    x = {name: np.full(graph.type(t).shape, 2.0, np.float32) for name, t in graph.inputs.items()}
    manager = PassManager([OutputDifference(lambda g, form: [evaluate(g, x)])])
    working = manager.begin(graph, Form.FLOAT)
    manager.run(working, [DropClamps(), Negate()])
    dropped, negated = (record.log.text for record in manager.records)
    assert "note max difference of the outputs 0, values up to 2" in dropped
    assert "note max difference of the outputs 4, values up to 2" in negated
    assert "note outputs against the imported ones: y inf dB" in dropped
    assert "note outputs against the imported ones: y -6.0 dB" in negated


def test_calibration_data_that_is_wrong_is_no_fault_of_the_pass() -> None:
    with pytest.raises(CalibrationError, match=r"^no data$"):
        run_pass(example(), NeedsData())


def test_a_tape_is_played_once_and_then_tells_at_once() -> None:
    tape, seen = Tape(), Records()
    manager = PassManager([tape])
    graph = manager.begin(example(), Form.FLOAT)
    manager.run(graph, [DropClamps()])
    assert seen.kept == []
    tape.play([seen])
    assert seen.kept == manager.records
    manager.run(graph, [DropClamps()])
    tape.play([seen])
    assert seen.kept == manager.records


def test_what_is_played_are_the_graphs_of_then(tmp_path: Path) -> None:
    live, later = tmp_path / "live", tmp_path / "later"
    tape, dump = Tape(), Dump(later)
    manager = PassManager([Dump(live), tape])
    dump.began(example(), Form.FLOAT)
    manager.run(manager.begin(example(), Form.FLOAT), [DropClamps(), Negate()])
    tape.play([dump])
    written = {p.name: p.read_text() for p in live.iterdir()}
    assert {p.name: p.read_text() for p in later.iterdir()} == written
    assert len(written) == 7
