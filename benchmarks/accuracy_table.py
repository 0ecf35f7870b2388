"""From the rows that accuracy.py recorded to docs/accuracy.md's tables, with the bars.

A bar is met or not as the figures say, before they are rounded for the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from peer_table import cells

Row = dict[str, Any]
Rows = Mapping[tuple[str, str], Row]  # by network and configuration
Tables = dict[str, str]

QUANTIZERS = ("ort_static", "nncf", "litert")
PEERS_WITH_SQNR = ("ort_static", "nncf")  # TensorFlow's file ends in a softmax
POINT = 0.01
SLACK = 1e-9  # of sums of binary fractions

W8A8_DROP = 0.3
DROPS: Mapping[str, Mapping[str, float]] = {
    "w8a8-tensor": {"mobilenetv2_tf": 0.7, "mobilenetv1_025_bn": 2.0},
    "w8a8-tensor-data-free": {"mobilenetv1_025_bn": 3.0},
    "w4a8": {"mobilenetv2_tf": 2.5, "resnet20_cifar10": 1.0, "squeezenet1_1": 2.0},
    "w8a16": dict.fromkeys(
        ("mobilenetv2_tf", "mobilenetv1_025_bn", "squeezenet1_1", "resnet20_cifar10", "mnist"), 0.1
    ),
}
"""The most points of top-1 that a configuration may lose."""

ABLATION = {
    "fold": "fold only",
    "fold-equalize": "+ equalization",
    "fold-equalize-absorb": "+ absorption",
    "fold-equalize-absorb-correct": "+ correction",
}
CALIBRATION_SECONDS, ADAROUND_SECONDS, SENSITIVITY_SECONDS = 60, 20 * 60, 5 * 60
ADAROUND_MEGABYTES = 3 * 1024
GROWTH_MEGABYTES = 16
"""What a peak may differ by from one run to the next."""


def tables(rows: Iterable[Row]) -> Tables:
    """Markdown by the name of the table."""
    known = {(row["network"], row["config"]): row for row in rows}
    makers: Mapping[str, Callable[[Rows], str]] = {
        "per-channel": per_channel,
        "sqnr": sqnr,
        "drops": drops,
        "ablation": ablation,
        "costs": costs,
    }
    return {name: make(known) for name, make in makers.items()}


def written(page: str, made: Tables) -> str:
    """The page with what stands between `<!-- table NAME -->` and `<!-- end -->` anew."""
    for name, table in made.items():
        mark = f"<!-- table {name} -->"
        found = re.compile(re.escape(mark) + r"\n.*?<!-- end -->", re.DOTALL)
        if len(found.findall(page)) != 1:
            raise ValueError(f"expected {mark} and <!-- end --> once in the page")
        new = f"{mark}\n{table}\n<!-- end -->"
        page = found.sub(lambda _, new=new: new, page)  # type: ignore[misc]
    return page


def per_channel(rows: Rows) -> str:
    """W8A8 against float and the best of the quantizers."""
    heads = ["network", "float", "ORT static", "NNCF", "TF int8", "qcomp", "met", "differing bits"]
    lines = []
    for name in networks(rows):
        reference, ours = figure(rows, name, "float", "top1"), figure(rows, name, "w8a8", "top1")
        theirs = [figure(rows, name, peer, "top1") for peer in QUANTIZERS]
        if reference is None:
            continue
        known = [top1 for top1 in theirs if top1 is not None]
        bar = min([reference - W8A8_DROP * POINT, *([max(known)] if known else [])])
        lines.append(
            [
                name,
                *map(share, [reference, *theirs]),
                failed(rows, name, "w8a8") or share(ours),
                verdict(ours, bar),
                exactness(rows, name, "w8a8"),
            ]
        )
    return table(heads, lines)


def sqnr(rows: Rows) -> str:
    heads = ["network", "ORT static", "NNCF", "qcomp W8A8", "higher than both", "qcomp W8A16"]
    lines = []
    for name in networks(rows):
        theirs = [figure(rows, name, peer, "sqnr_db") for peer in PEERS_WITH_SQNR]
        ours = figure(rows, name, "w8a8", "sqnr_db")
        bar = max((db for db in theirs if db is not None), default=None)
        above = "" if ours is None or bar is None else yes_or_no(ours > bar)
        row = [name, *map(decibels, [*theirs, ours]), above]
        lines.append([*row, decibels(figure(rows, name, "w8a16", "sqnr_db"))])
    return table(heads, lines)


def drops(rows: Rows) -> str:
    """The configurations whose bar is a distance from float."""
    heads = ["configuration", "network", "float", "qcomp", "points", "bar", "met", "SQNR, dB"]
    heads.append("differing bits")
    lines = []
    for config, bars in DROPS.items():
        for name, drop in bars.items():
            reference = figure(rows, name, "float", "top1")
            ours = figure(rows, name, config, "top1")
            known = reference is not None and ours is not None
            lines.append(
                [
                    config,
                    name,
                    share(reference),
                    failed(rows, name, config) or share(ours),
                    f"{(ours - reference) / POINT:+.2f}" if known else "",
                    f"-{drop}",
                    verdict(ours, None if reference is None else reference - drop * POINT),
                    decibels(figure(rows, name, config, "sqnr_db")),
                    exactness(rows, name, config),
                ]
            )
    return table(heads, lines)


def ablation(rows: Rows) -> str:
    name = "mobilenetv2_tf"
    lines = [
        [
            label,
            failed(rows, name, config) or share(figure(rows, name, config, "top1")),
            decibels(figure(rows, name, config, "sqnr_db")),
        ]
        for config, label in ABLATION.items()
    ]
    lines.append(["float", share(figure(rows, name, "float", "top1")), ""])
    return table(["per tensor", "top-1", "SQNR, dB"], lines)


def costs(rows: Rows) -> str:
    """Times and peaks against what they may be."""
    name = "mobilenetv2_tf"

    def value(config: str, key: str) -> float | None:
        return figure(rows, name, config, key)

    seconds, peak = value("w4a8", "seconds"), value("w4a8", "peak_mb")
    few, many = value("calibration-50", "peak_mb"), value("calibration-200", "peak_mb")
    calibrated = value("calibration-200", "seconds")
    table_seconds = value("sensitivity", "seconds")
    dask = rows.get((name, "sensitivity"), {})
    lines = [
        ["W4A8 with AdaRound, seconds", number(seconds), "1200", least(seconds, ADAROUND_SECONDS)],
        ["W4A8 with AdaRound, peak MB", number(peak), "3072", least(peak, ADAROUND_MEGABYTES)],
        [
            "all estimators, 200 images, seconds",
            number(calibrated),
            "60",
            least(calibrated, CALIBRATION_SECONDS),
        ],
        [
            "the same, peak MB",
            number(many),
            f"with 50 images: {number(few)}",
            least(many, None if few is None else few + GROWTH_MEGABYTES),
        ],
        [
            "sensitivity table, 100 images, seconds",
            number(table_seconds),
            "300",
            least(table_seconds, SENSITIVITY_SECONDS),
        ],
        [
            "the same on two dask workers, seconds",
            number(value("sensitivity", "dask_seconds")),
            "the same numbers",
            yes_or_no(dask["dask_equal"]) if "dask_equal" in dask else "",
        ],
    ]
    return table(["mobilenetv2_tf", "measured", "bar", "met"], lines)


def networks(rows: Rows) -> list[str]:
    return list(dict.fromkeys(name for name, config in rows if config in ("float", "w8a8")))


def figure(rows: Rows, name: str, config: str, key: str) -> float | None:
    value = rows.get((name, config), {}).get(key)
    return None if value is None else float(value)


def failed(rows: Rows, name: str, config: str) -> str:
    """That there is no figure because the row failed."""
    return "failed" if "error" in rows.get((name, config), {}) else ""


def exactness(rows: Rows, name: str, config: str) -> str:
    """Differing bits of the native code and the specification."""
    row = rows.get((name, config), {})
    if "differing_bits" not in row:
        return ""
    return f"{row['differing_bits']} in {row['checked_samples']} samples"


def verdict(ours: float | None, bar: float | None) -> str:
    return "" if ours is None or bar is None else yes_or_no(ours >= bar - SLACK)


def least(ours: float | None, bar: float | None) -> str:
    return "" if ours is None or bar is None else yes_or_no(ours <= bar)


def yes_or_no(truth: bool) -> str:
    return "yes" if truth else "**no**"


def share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}".removeprefix("0")


def decibels(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join([cells(heads), "|" + "---|" * len(heads), *map(cells, lines)])
