"""The table of the peers, from rows as bench_peers.py records them."""

from __future__ import annotations

from typing import Any

import pytest
from peer_table import Times, table

Rows = list[dict[str, Any]]


def row(peer: str, model: str, ms: float, isa: str = "native", threads: int = 1) -> dict[str, Any]:
    key = {"peer": peer, "model": model, "isa": isa, "threads": threads}
    return {**key, "ms": ms, "p10": ms, "p90": ms}


def calls(threads: int = 1, isa: str = "native") -> Rows:
    """What a call costs: 1 ms for qcomp, 2 for onnxruntime; LiteRT has no such network."""
    return [
        row("qcomp_int8", "null_relu", 1.0, isa, threads),
        row("qcomp_int8_float_io", "null_relu", 1.0, isa, threads),
        row("ort_u8s8", "null_relu", 2.0, isa, threads),
    ]


def cells(text: str, model: str) -> dict[str, str]:
    """One line of the table by its heads; of two heads of one name, the first."""
    split = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines()]
    (line,) = [fields for fields in split if fields[0] == model]
    return dict(reversed(list(zip(split[0], line, strict=True))))


def test_the_best_peer_is_the_fastest_after_the_cost_of_a_call() -> None:
    rows = [row("ort_u8s8", "kws", 10.0), row("litert_xnn_int8", "kws", 9.5)]
    ours = [row("qcomp_int8", "kws", 5.0), row("qcomp_int8_float_io", "kws", 7.0)]
    line = cells(table([[*calls(), *rows, *ours]], "native", 1), "kws")
    assert line["best peer"] == "ort_u8s8"  # 10 - 2, against 9.5 - 1
    assert line["its ms"] == "8"
    assert line["qcomp ms"] == "4"
    assert line["floats in, out: ms"] == "6"
    assert line["ratio"] == "0.50"
    assert line["bar"] == "0.35"


def test_times_are_medians_over_the_rounds() -> None:
    rounds = [
        [*calls(), row("ort_u8s8", "vww", ms), row("qcomp_int8", "vww", 3.0)]
        for ms in (9.0, 4.0, 5.0)
    ]
    assert cells(table(rounds, "native", 1), "vww")["its ms"] == "3"


def test_a_disturbed_round_counts_only_where_none_was_calm() -> None:
    disturbed = [{**row("ort_u8s8", "vww", ms), "p10": ms / 2} for ms in (20.0, 22.0, 24.0)]
    rounds = [[*calls(), r] for r in disturbed]
    assert cells(table(rounds, "native", 1), "vww")["its ms"] == "20"
    calm = [*rounds, [*calls(), row("ort_u8s8", "vww", 12.0)]]
    assert cells(table(calm, "native", 1), "vww")["its ms"] == "10"


def test_peers_without_the_limit_are_listed_apart() -> None:
    rows = [
        row("openvino_int8", "resnet50", 20.0, "avx2"),
        row("litert_xnn_int8", "resnet50", 11.0),
        row("openvino_int8", "resnet50", 5.0),
        row("qcomp_int8", "resnet50", 16.0, "avx2"),
    ]
    line = cells(table([[*calls(isa="avx2"), *rows]], "avx2", 1), "resnet50")
    assert line["best peer"] == "openvino_int8"
    assert line["best of those without a limit"] == "litert_xnn_int8"
    assert line["bar"] == "1"


def test_several_threads_are_also_compared_with_one() -> None:
    rows = [
        row("ort_u8s8", "mobilenet_v2", 12.0, threads=2),
        row("qcomp_int8", "mobilenet_v2", 6.0, threads=2),
        row("qcomp_int8", "mobilenet_v2", 11.0, threads=1),
    ]
    line = cells(table([[*calls(1), *calls(2), *rows]], "native", 2), "mobilenet_v2")
    assert line["ratio"] == "0.50"
    assert line["ratio to it"] == "0.50"


def test_what_failed_is_said_and_leaves_an_empty_cell() -> None:
    failed = {
        "peer": "qcomp_int8",
        "model": "ad01",
        "isa": "avx2",
        "threads": 1,
        "error": "no avx2",
    }
    text = table([[*calls(), row("ort_u8s8", "ad01", 3.0, "avx2"), failed]], "avx2", 1)
    assert cells(text, "ad01")["ratio"] == ""
    assert "- qcomp_int8, ad01, avx2, threads 1: no avx2" in text


def test_networks_come_in_the_order_of_the_bars() -> None:
    rows = [row("ort_u8s8", model, 3.0) for model in ("own", "resnet50", "ad01")]
    assert Times([[*calls(), *rows]]).models == ["ad01", "resnet50", "own"]


@pytest.mark.parametrize("rounds", [[], [[]]])
def test_no_rows_give_an_empty_table(rounds: list[Rows]) -> None:
    assert len(table(rounds, "native", 1).splitlines()) == 2
