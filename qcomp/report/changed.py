"""How both networks do on labelled samples, and the samples whose answer changed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qcomp.calibration.data import Source
from qcomp.calibration.runs import Inputs
from qcomp.calibration.samples import Samples
from qcomp.evaluation.labelled import labelled
from qcomp.evaluation.labels import Classes
from qcomp.evaluation.meter import Meter
from qcomp.evaluation.record import Evaluation
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array
from qcomp.progress import tracked
from qcomp.report.network import Network
from qcomp.report.png import picture

MOST_SHOWN = 24


@dataclass(frozen=True)
class ChangedSample:
    """Classes are outputs; `image` is a data URL, None of what is no picture."""

    name: str
    of_float: str
    of_integer: str
    label: str | None
    image: str | None


@dataclass(frozen=True)
class Comparison:
    """`changed` are the first few; `pairs` count all by (float, integer), the most frequent first.

    right_to_wrong, wrong_to_right: of the changed, where there are labels.
    """

    evaluation: Evaluation
    changed: tuple[ChangedSample, ...]
    pairs: tuple[tuple[str, str, int], ...]
    count: int
    right_to_wrong: int
    wrong_to_right: int


def compared(
    net: Network,
    model: Graph,
    inputs: Inputs,
    data: Source,
    labels: Any,
    *,
    count: int | None,
    classes: str | os.PathLike[str] | None,
    label_offset: int,
    progress: bool,
) -> Comparison:
    """Float and integer network on the same samples; `model` has inputs as the caller has them."""
    found = labelled(data, labels, list(inputs), count)
    how = net.config.preprocessing
    limit = None if found.names else count
    runs = Samples(found.source, inputs, preprocessing=how, samples=limit, progress=progress)
    meaning = Classes.of(classes, label_offset)
    meter = Meter(model, net, runs, most_named=0)
    kept: list[tuple[int, str | None]] = []
    for run in tracked(runs, "comparing answers", runs.expected, shown=progress):
        meter.add(run)
        last = meter.count - meter.batch
        kept += [
            (place, _picture(run, place - last, meter.batch, how))
            for place in range(last, meter.count)
            if _differ(meter, place)
        ]
    if len(found.labels) > meter.count:  # of more samples than were asked for
        found.labels = found.labels[: meter.count]
    evaluation = meter.result(found, meaning, None)
    right = meaning.outputs(found.labels, meter.classes) if evaluation.of_float and (
        evaluation.of_float.top1 is not None
    ) else []  # fmt: skip
    return _comparison(evaluation, meter, kept, [found.name(p) for p, _ in kept], right, meaning)


def _comparison(
    evaluation: Evaluation,
    meter: Meter,
    kept: Sequence[tuple[int, str | None]],
    names: Sequence[str],
    right: Sequence[int],
    meaning: Classes,
) -> Comparison:
    changed, counts, lost, won = [], Counter[tuple[str, str]](), 0, 0
    for (place, image), name in zip(kept, names, strict=True):
        of_float, of_integer = _tops(meter, place)
        label = right[place] if right else None
        lost += label is not None and of_float == label
        won += label is not None and of_integer == label
        told = [_told(c, meaning) for c in (of_float, of_integer)]
        counts[told[0], told[1]] += 1
        known = None if label is None else _told(label, meaning)
        changed.append(ChangedSample(name, told[0], told[1], known, image))
    pairs = tuple((a, b, n) for (a, b), n in counts.most_common())
    return Comparison(evaluation, tuple(changed[:MOST_SHOWN]), pairs, len(kept), lost, won)


def _tops(meter: Meter, place: int) -> tuple[int, int]:
    of_float, of_integer = (
        meter.networks[name].ranking.places[place][0] for name in ("float", "integer")
    )
    return of_float, of_integer


def _differ(meter: Meter, place: int) -> bool:
    if meter.classes is None:
        return False
    of_float, of_integer = _tops(meter, place)
    return of_float != of_integer


def _told(output: int, meaning: Classes) -> str:
    place = output - meaning.offset
    return meaning.names[place] if 0 <= place < len(meaning.names) else str(place)


def _picture(run: dict[str, Array], place: int, batch: int, how: Any) -> str | None:
    value = next(iter(run.values()))
    if batch > 1:
        value = value[place : place + 1]
    layout = None if how is None else how.layout
    return picture(value, layout, bgr=how is not None and how.channels == "bgr")
