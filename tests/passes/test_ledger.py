"""The ledger: what each pass did, which lines of the graph changed, and its file."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.ir import DType, Form, Graph, TensorType
from qcomp.ir.ops import NO_CLAMP, RELU, Binary, Clamp
from qcomp.passes.base import PassManager, PassRecord
from qcomp.passes.events import EventKind, PassLog
from qcomp.passes.ledger import Ledger, LedgerEvent, PassEntry, changes
from qcomp.passes.ledger_file import packed, unpacked


@dataclass(frozen=True)
class DropClamps:
    name: ClassVar[str] = "drop-clamps"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    def run(self, graph: Graph, log: PassLog) -> None:
        for op in graph.ops():
            if isinstance(op, Clamp) and op.clamp.is_none:
                graph.replace_uses(op.output, op.x)
                log.did(f"{op.id} dropped", op=op.id, limit=np.inf, share=0.5)
            elif isinstance(op, Clamp):
                log.skipped(op.id, "it clamps")


@dataclass(frozen=True)
class HalveConstants:
    name: ClassVar[str] = "halve-constants"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    def run(self, graph: Graph, log: PassLog) -> None:
        for tensor in graph.tensors():
            if tensor.data is not None:
                data = tensor.data / 2
                data.flags.writeable = False
                graph.update_tensor(replace(tensor, data=data))


def example() -> Graph:
    graph = Graph("example")
    graph.add_input("x", TensorType(DType.F32, (4,)))
    graph.add_constant("c", np.ones(4, np.float32))
    graph.add_op(Clamp(inputs=("x",), output="a", clamp=NO_CLAMP))
    graph.add_op(Clamp(inputs=("a",), output="b", clamp=RELU))
    graph.add_op(ADD)
    graph.outputs["y"] = "s"
    return graph


ADD = next(cls for cls in Binary.__subclasses__() if cls.mnemonic == "add")(
    inputs=("b", "c"), output="s"
)


def ran(*passes: Any) -> Ledger:
    ledger = Ledger()
    manager = PassManager([ledger])
    manager.run(manager.begin(example(), Form.FLOAT), passes)
    return ledger


def test_an_entry_has_events_with_the_lines_of_their_ops() -> None:
    (entry,) = ran(DropClamps()).entries
    dropped, left = entry.events
    assert (dropped.kind, dropped.op) == (EventKind.DID, "a")
    assert dropped.line.startswith("%a = clamp(%x)")  # as it was before the pass
    assert dropped.numbers == {"share": 0.5}  # no JSON has infinity
    assert (left.reason, left.line[:13]) == ("it clamps", "%b = clamp(%x")
    assert (entry.name, entry.gives, entry.ops) == ("drop-clamps", Form.FLOAT, 2)
    assert entry.constant_bytes == 16
    assert entry.seconds is not None
    assert entry.count(EventKind.DID) == 1
    assert entry.number("share") == 0.5
    assert entry.number("nothing") is None


def test_the_difference_is_what_went_what_came_and_what_has_other_numbers() -> None:
    dropped, halved = ran(DropClamps(), HalveConstants()).entries
    assert [line[:12] for line in dropped.diff] == ["-%a = clamp(", "-%b = clamp(", "+%b = clamp("]
    assert halved.diff == ("~%c = constant : f32[4]",)
    graph = example()
    assert list(changes(graph, graph.clone())) == []


def test_a_step_that_is_no_pass_leaves_the_graph() -> None:
    ledger = ran(DropClamps())
    ledger.recorded(PassRecord("recipe", PassLog(), 0.5, Form.FLOAT))
    assert (ledger.entries[1].ops, ledger.entries[1].diff) == (2, ())


texts = st.text(max_size=5)
events = st.builds(
    LedgerEvent,
    st.sampled_from(EventKind),
    texts,
    st.none() | texts,
    st.none() | texts,
    texts,
    st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False), max_size=2),
    texts,
)
entries = st.builds(
    PassEntry,
    texts,
    st.sampled_from(Form),
    st.lists(events, max_size=3).map(tuple),
    st.lists(texts, max_size=3).map(tuple),
    st.integers(0, 9),
    st.integers(0, 9),
    st.none() | st.floats(0, 9),
    st.none() | st.integers(0, 1 << 40),
    st.dictionaries(texts, st.floats(-120, 120), max_size=2),
)


@given(ledger=st.lists(entries, max_size=3).map(tuple))
def test_the_file_holds_what_was_written(ledger: tuple[PassEntry, ...]) -> None:
    assert unpacked(packed(ledger)) == ledger
    assert packed(ledger) == packed(ledger)


def test_what_another_run_tells_otherwise_is_left_out() -> None:
    (entry,) = ran(DropClamps()).entries
    assert (entry.untimed.seconds, entry.untimed.peak_bytes) == (None, None)
    assert entry.untimed.events == entry.events


GOOD = {"name": "n", "gives": "float", "events": [], "diff": [], "ops": 1, "constant_bytes": 0}
EVENT = {"kind": "did", "text": "", "op": None, "tensor": None, "reason": "", "numbers": {}}
BROKEN = [
    [],
    {"version": 2, "passes": []},
    {"version": 1},
    {"version": 1, "passes": [{}]},
    {"version": 1, "passes": [GOOD | {"gives": "other"}]},
    {"version": 1, "passes": [GOOD | {"diff": [1]}]},
    {"version": 1, "passes": [GOOD | {"ops": "1"}]},
    {"version": 1, "passes": [GOOD | {"more": 1}]},
    {"version": 1, "passes": [GOOD | {"seconds": "1"}]},
    {"version": 1, "passes": [GOOD | {"tensors": {"x": "near"}}]},
    {"version": 1, "passes": [GOOD | {"events": [EVENT]}]},
    {"version": 1, "passes": [GOOD | {"events": [EVENT | {"line": "", "kind": "x"}]}]},
    {"version": 1, "passes": [GOOD | {"events": [EVENT | {"line": "", "op": 5}]}]},
]


@pytest.mark.parametrize("record", BROKEN, ids=str)
def test_another_file_is_a_value_error(record: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpacked(gzip.compress(json.dumps(record).encode()))


@given(place=st.integers(0), byte=st.integers(1, 255))
def test_a_damaged_file_is_a_value_error(place: int, byte: int) -> None:
    content = bytearray(packed(ran(DropClamps()).entries))
    content[place % len(content)] ^= byte
    try:
        unpacked(bytes(content))
    except ValueError:
        return
    assert place % len(content) < 10  # bytes of gzip's header that say nothing of the content
