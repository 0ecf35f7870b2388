"""Statistics from data: run the float graph on every sample and observe every activation.

Each run's activations go to the observers at once, so memory does not grow with the samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from qcomp.calibration.data import Source, expected_runs, open_calibration
from qcomp.calibration.statistics import Statistics, float_activations, weighted_operands
from qcomp.errors import CalibrationError
from qcomp.export.session import FloatSession
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array
from qcomp.quant.observers import ChannelMean, Observer, make_observer

KEPT = 8


def collect(
    graph: Graph, source: Source, *, observer: str = "mse", progress: bool = False
) -> Statistics:
    """Observe a FLOAT graph on calibration data; `progress` shows a bar on stderr."""
    try:
        observers = {id: make_observer(observer) for id in float_activations(graph)}
    except ValueError as error:
        raise CalibrationError(str(error)) from error
    means = {id: ChannelMean() for id in weighted_operands(graph)}
    inputs = {name: graph.type(id) for name, id in graph.inputs.items()}
    runs: Iterable[dict[str, Array]] = open_calibration(source, inputs)
    if progress:
        runs = _with_bar(runs, expected_runs(source, inputs))
    session = FloatSession(_with_all_results(graph))
    samples = 0
    kept: list[dict[str, Array]] = []
    for run in runs:
        values = {id: run[name] for name, id in graph.inputs.items()}
        values |= session.run(values)
        for id, one in observers.items():
            _observe(one, values[id], f"%{id} in calibration run {samples}")
        for id, mean in means.items():
            mean.update(values[id])
        if len(kept) < KEPT:
            kept.append({name: array.copy() for name, array in run.items()})
        samples += 1
    return Statistics(
        ranges={id: one.range() for id, one in observers.items()},
        channel_means={id: mean.mean() for id, mean in means.items()},
        samples=samples,
        kept=tuple(kept),
    )


def _with_all_results(graph: Graph) -> Graph:
    """The graph with every f32 result as an output; inputs and outputs go by their tensor ids."""
    watched = graph.clone()
    watched.inputs = {id: id for id in graph.inputs.values()}
    watched.outputs = {id: id for id in float_activations(graph) if graph.producer(id) is not None}
    return watched


def _observe(observer: Observer, value: Array, where: str) -> None:
    try:
        observer.update(value)
    except ValueError as error:
        raise CalibrationError(f"{where}: {error}; expected finite activations") from error


def _with_bar(runs: Iterable[dict[str, Array]], total: int | None) -> Iterator[dict[str, Array]]:
    columns = (TextColumn("calibrating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("calibrating", total=total)
        for done, run in enumerate(runs, start=1):
            yield run
            bar.update(task, completed=done, total=None if total is None else max(total, done))
