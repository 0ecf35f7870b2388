"""Inaccurate parts are told with what 16 bits would give, and fail a compilation on demand."""

from __future__ import annotations

import json
import math

import pytest

from qcomp.accuracy.parts import Part
from qcomp.accuracy.record import Accuracy, PartAccuracy
from qcomp.errors import FindingsError
from qcomp.findings.find import Demands
from qcomp.findings.outputs import Ratios, few_integers, inaccurate
from qcomp.findings.record import Finding, Kind, in_order, plain, read, told

BOXES, SCORES, ANGLE = (Part("y", 2, 1, ((i, i + 1),)) for i in range(3))


def part(of: Part, db: float | None, integers: int = 200, own: int = 200) -> PartAccuracy:
    return PartAccuracy(of, db, 0.0, 1.0, integers, own)


def accuracy(*parts: PartAccuracy) -> Accuracy:
    return Accuracy(8, 30.0, parts)


def wider(ratio: float) -> Ratios:
    return dict.fromkeys((BOXES, SCORES, ANGLE), ratio)


def test_parts_below_20_db_are_told_worst_first_with_the_figure_of_16_bits() -> None:
    measured = accuracy(part(BOXES, 44.0), part(SCORES, 12.0), part(ANGLE, 0.2, 2))
    angle, scores = inaccurate(measured, lambda: wider(41.0), 20.0)
    assert str(angle) == (
        "y[:, 2]: 0.2 dB, under 20, in 2 of 256 integers; "
        "16-bit activations give 41.0 dB: --activation-bits 16"
    )
    assert (scores.where, scores.number) == ("y[:, 1]", 12.0)


@pytest.mark.parametrize(
    ("ratios", "advice"),
    [
        (wider(13.0), "16-bit activations give 13.0 dB, so weights or ranges limit it: try --r"),
        ({}, "try --recipe best"),
    ],
)
def test_where_16_bits_do_not_help_they_are_not_advised(ratios: Ratios, advice: str) -> None:
    (finding,) = inaccurate(accuracy(part(SCORES, 12.0)), lambda: ratios, 20.0)
    assert finding.help.startswith(advice)


def test_nothing_is_simulated_where_all_parts_are_accurate() -> None:
    def unexpected() -> Ratios:
        raise AssertionError

    measured = accuracy(part(BOXES, 44.0), part(SCORES, None))
    assert list(inaccurate(measured, unexpected, 20.0)) == []


@pytest.mark.parametrize(
    ("measured", "count"),
    [
        (part(SCORES, 25.0, 5, 180), 1),
        (part(SCORES, 25.0, 5, 6), 0),  # two classes: there is nothing between
        (part(SCORES, 25.0, 8, 180), 0),
        (part(SCORES, 15.0, 5, 180), 0),  # told of as inaccurate
    ],
)
def test_a_part_in_few_integers_is_told(measured: PartAccuracy, count: int) -> None:
    found = list(few_integers(accuracy(measured), 20.0))
    assert [f.kind for f in found] == [Kind.FEW_INTEGERS] * count


INACCURATE = Finding(Kind.INACCURATE, "y", 12.0, "12.0 dB", "help")
FEW = Finding(Kind.FEW_SAMPLES, "calibration data", 3, "3 samples", "help")


@pytest.mark.parametrize(
    ("demands", "findings", "refused"),
    [
        (Demands(), (INACCURATE, FEW), 0),
        (Demands(strict=True), (INACCURATE, FEW), 2),
        (Demands(strict=True), (), 0),
        (Demands(min_sqnr_db=20.0), (INACCURATE, FEW), 1),
        (Demands(min_sqnr_db=20.0), (FEW,), 0),
    ],
)
def test_demands_refuse_what_they_name(
    demands: Demands, findings: tuple[Finding, ...], refused: int
) -> None:
    measured = accuracy(part(SCORES, 12.0))
    if not refused:
        demands.check(findings, measured)
        return
    with pytest.raises(FindingsError, match=f"^{refused} findings that are refused:\n  y: 12"):
        demands.check(findings, measured)


def test_a_ratio_is_demanded_in_vain_where_there_is_none() -> None:
    with pytest.raises(FindingsError, match="there is no ratio to compare; give calibration"):
        Demands(min_sqnr_db=20.0).check((), None)
    with pytest.raises(FindingsError, match="min_sqnr_db=nan: expected decibels"):
        Demands(min_sqnr_db=math.nan)


def test_findings_are_told_causes_first_and_a_handful() -> None:
    many = in_order([FEW, INACCURATE, *[INACCURATE] * 4, Finding(Kind.CONSTANT, "x", 1, "t", "h")])
    assert [f.kind for f in many] == [Kind.CONSTANT, *[Kind.INACCURATE] * 5, Kind.FEW_SAMPLES]
    assert told(many)[0] == "x: t; h"
    assert told(many)[5:] == ["and 2 more, which the manifest lists"]
    assert told(many[:5]) == [str(f) for f in many[:5]]


def test_findings_come_back_from_json() -> None:
    assert read(json.loads(json.dumps(plain([INACCURATE, FEW])))) == (INACCURATE, FEW)
    with pytest.raises(ValueError, match="odd"):
        read([{**plain([FEW])[0], "kind": "odd"}])
