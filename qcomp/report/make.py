"""`qcomp report`: measures, collects and writes the page of a compiled network."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qcomp.calibration.data import Source
from qcomp.errors import CompileError
from qcomp.files import write_file
from qcomp.findings.record import told
from qcomp.frontends import ModelLike
from qcomp.ir.graph import Graph
from qcomp.passes.ledger import PassEntry
from qcomp.progress import bar, tracked
from qcomp.report.advice import Advice, advice, tried
from qcomp.report.changed import compared
from qcomp.report.channels import channel_ranges
from qcomp.report.distributions import Observed
from qcomp.report.facts import facts
from qcomp.report.integer_counts import IntegerCounts
from qcomp.report.measure import Errors, Subject, inputs_of, subject
from qcomp.report.measure import errors as errors_of
from qcomp.report.network import Network
from qcomp.report.node_facts import Findings, Json, Seen
from qcomp.report.page import page
from qcomp.report.pairs import Pairs
from qcomp.report.replay import Replay
from qcomp.report.shares import OutputShares
from qcomp.report.times import Times

MOST_ADVISED = 8
MOST_MEASURED = 32  # samples, unless told otherwise


def report(
    net: Network,
    path: str | os.PathLike[str],
    *,
    model: ModelLike | None = None,
    calibration: Source | None = None,
    data: Source | None = None,
    labels: Any = None,
    count: int | None = MOST_MEASURED,
    classes: str | os.PathLike[str] | None = None,
    label_offset: int = 0,
    samples: int | None = None,
    bind: Mapping[str, int] | None = None,
    bind_values: Mapping[str, Any] | None = None,
    advise: bool = False,
    times: Times | None = None,
    progress: bool = False,
) -> Path:
    """Write one HTML file that needs nothing else.

    model, calibration, samples, bind, bind_values: as `compile` was given them; without the model
        there are no errors of weights, without any data no errors at all.
    data: to measure on, else the calibration data; `count` samples at most, None: all.
    advise: measure what each advice gains; takes the model and the calibration data.
    times: of ops, where they were measured.
    labels, classes, label_offset: as for `evaluate`; labels may also be in the data.
    """
    found = collected(
        net,
        model=model,
        calibration=calibration,
        data=data,
        labels=labels,
        count=count,
        classes=classes,
        label_offset=label_offset,
        samples=samples,
        bind=bind,
        bind_values=bind_values,
        advise=advise,
        times=times,
        progress=progress,
    )
    target = Path(path)
    write_file(target, page(found).encode())
    return target


def collected(
    net: Network,
    *,
    model: ModelLike | None,
    calibration: Source | None,
    data: Source | None,
    labels: Any,
    count: int | None,
    classes: str | os.PathLike[str] | None,
    label_offset: int,
    samples: int | None,
    bind: Mapping[str, int] | None,
    bind_values: Mapping[str, Any] | None,
    advise: bool,
    times: Times | None,
    progress: bool,
) -> Json:
    """What the page shows."""
    began = time.perf_counter()
    source = calibration if data is None else data
    if labels is not None and (model is None or source is None):
        raise CompileError("labels: expected the model and the data that they are of, too")
    notes: list[str] = []
    subject_ = None
    if net.qdq is None:
        notes.append("the network came in integers: there are no floats to compare it with")
    elif source is not None:
        subject_ = subject(
            net,
            model,
            calibration,
            samples=samples,
            bind=bind,
            bind_values=bind_values,
            progress=progress,
        )
    else:
        notes.append("errors of tensors take data: give --calibration or --data")
    errors: Errors | None = None
    seen = Seen({}, {})
    if subject_ is not None and source is not None:
        errors, seen = _measured(subject_, source, count, progress=progress)
    comparison = None
    if subject_ is not None and subject_.replay is not None and data is not None:
        comparison = compared(
            net,
            subject_.replay.taken,
            inputs_of(net),
            data,
            labels,
            count=count,
            classes=classes,
            label_offset=label_offset,
            progress=progress,
        )
    passes = _passes(net, subject_)
    channels = {} if subject_ is None else channel_ranges(_normalized(subject_), _graph(subject_))
    told_ = advice(subject_, told(net.findings), errors, tries=advise)
    if advise and subject_ is not None and subject_.replay is not None:
        told_ = tried(told_, subject_.replay.quantizer, net.config)
    return facts(
        net, Findings(errors, passes, seen, channels, comparison, told_, notes, began, times)
    )


def _measured(
    found: Subject, source: Any, count: int | None, *, progress: bool
) -> tuple[Errors, Seen]:
    """Errors, and the values of the tensors that have any, in one go over the samples."""
    pairs, counts = found.pairs, IntegerCounts()
    measurement, shares = found.measurement(counts), OutputShares(pairs)
    observed = Observed(dict.fromkeys(pairs.floats.values()))
    data = found.samples(source, count)
    for sample in tracked(data, "errors of tensors", data.expected, shown=progress):
        real, isolated = measurement.add(sample)
        shares.add(real, isolated)
        observed.add(real)
    with bar("shares of ops", shown=progress) as done:
        errors = Errors.summed(found, measurement, shares, data.batch, done.advance)
    owners = {e.real: e.qparams for e in reversed(errors.tensors) if e.isolated is not None}
    floats = {id: observed.of(id, q) for id, q in owners.items()}
    integers = {e.id: values for e in errors.tensors if (values := counts.of(e.id)) is not None}
    return errors, Seen(floats, integers)


def _passes(net: Network, found: Subject | None) -> Sequence[PassEntry]:
    """Those of the compilation where it measured them, or else of the same passes run again."""
    measured = any(entry.number("sqnr_db") is not None for entry in net.ledger)
    if measured or found is None or found.replay is None:
        return net.ledger
    return found.replay.passes() or net.ledger


def _normalized(found: Subject) -> Graph | None:
    return None if found.replay is None else found.replay.quantizer.normalized


def _graph(found: Subject) -> Graph:
    return found.pairs.reference


def advised(net: Network, replay: Replay) -> list[Advice]:
    """What a compilation noticed, on its own calibration data, with what each advice gains."""
    if net.qdq is None or replay.quantizer.evidence.data is None:
        return advice(None, told(net.findings), None)
    found = Subject(net, Pairs(replay.graph, net.qdq, net.graph), replay, ())
    data = replay.quantizer.evidence.data.limited(MOST_ADVISED)
    listed = advice(found, told(net.findings), errors_of(found, data), tries=True)
    return tried(listed, replay.quantizer, net.config)
