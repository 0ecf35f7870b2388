"""The accuracy tables, from rows as accuracy.py records them."""

from __future__ import annotations

import pytest
from accuracy_table import Row, tables, written


def row(network: str, config: str, **figures: object) -> Row:
    return {"network": network, "config": config, **figures}


def line(table: str, start: str) -> dict[str, str]:
    """One line of a table by its heads."""
    split = [[c.strip() for c in text.strip("|").split("|")] for text in table.splitlines()]
    (found,) = [fields for fields in split if "| ".join(fields).startswith(start)]
    return dict(zip(split[0], found, strict=True))


@pytest.mark.parametrize(
    ("ours", "met"),
    [(0.797, "yes"), (0.7969, "**no**"), (0.81, "yes")],  # float - 0.3 points
)
def test_w8a8_may_lose_three_tenths_of_a_point(ours: float, met: str) -> None:
    rows = [row("mnist", "float", top1=0.8), row("mnist", "w8a8", top1=ours)]
    assert line(tables(rows)["per-channel"], "mnist")["met"] == met


def test_w8a8_may_instead_be_as_good_as_the_best_peer() -> None:
    rows = [
        row("mnist", "float", top1=0.8),
        row("mnist", "ort_static", top1=0.7),
        row("mnist", "nncf", top1=0.79),
        row("mnist", "w8a8", top1=0.79),
    ]
    assert line(tables(rows)["per-channel"], "mnist")["met"] == "yes"
    rows[-1]["top1"] = 0.7899
    assert line(tables(rows)["per-channel"], "mnist")["met"] == "**no**"


def test_sqnr_is_to_be_above_both_quantizers() -> None:
    rows = [
        row("mnist", "ort_static", sqnr_db=30.0),
        row("mnist", "nncf", sqnr_db=31.0),
        row("mnist", "litert", sqnr_db=99.0),
        row("mnist", "w8a8", sqnr_db=31.0),
    ]
    assert line(tables(rows)["sqnr"], "mnist")["higher than both"] == "**no**"
    rows[-1]["sqnr_db"] = 31.1
    assert line(tables(rows)["sqnr"], "mnist")["higher than both"] == "yes"


def test_a_drop_is_told_in_points() -> None:
    rows = [
        row("squeezenet1_1", "float", top1=0.67),
        row("squeezenet1_1", "w4a8", top1=0.65, differing_bits=0, checked_samples=4),
    ]
    found = line(tables(rows)["drops"], "w4a8| squeezenet1_1")
    assert (found["points"], found["met"]) == ("-2.00", "yes")
    assert found["differing bits"] == "0 in 4 samples"


def test_a_row_that_failed_says_so() -> None:
    rows = [row("mnist", "float", top1=0.98), row("mnist", "w8a16", error="TargetError: no")]
    found = line(tables(rows)["drops"], "w8a16| mnist")
    assert (found["qcomp"], found["met"]) == ("failed", "")


def test_calibration_memory_must_not_grow() -> None:
    rows = [
        row("mobilenetv2_tf", "calibration-50", peak_mb=300.0),
        row("mobilenetv2_tf", "calibration-200", peak_mb=310.0, seconds=40.0),
    ]
    assert line(tables(rows)["costs"], "the same, peak MB")["met"] == "yes"
    rows[1]["peak_mb"] = 400.0
    assert line(tables(rows)["costs"], "the same, peak MB")["met"] == "**no**"


def test_a_page_keeps_all_but_its_tables() -> None:
    page = "above\n<!-- table a -->\nold\n<!-- end -->\nbelow\n"
    new = written(page, {"a": "| new \\1 |"})
    assert new == "above\n<!-- table a -->\n| new \\1 |\n<!-- end -->\nbelow\n"
    assert written(new, {"a": "| new \\1 |"}) == new
    with pytest.raises(ValueError, match="table b"):
        written(page, {"b": "x"})
