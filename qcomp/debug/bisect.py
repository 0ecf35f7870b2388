"""Which pass or choice costs accuracy: each is made otherwise, alone, and the best ones together.

A trial quantizes the network as a compilation does and runs its QDQ form in floats. First it is
asked whether the cause lies before quantization: in the data (findings, and for metrics that know
what is right the float network on data in another scale or order) or in a pass that should keep the
float function and does not.
"""

from __future__ import annotations

import dataclasses
import runpy
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import ArrayLike

from qcomp.calibration.data import Source, is_pictures
from qcomp.calibration.samples import Run, Samples
from qcomp.calibration.statistics import float_outputs
from qcomp.config import ONNX, QuantizationConfig
from qcomp.debug.bisection import Bisection
from qcomp.debug.exactness import EXACT, Exactness
from qcomp.debug.metrics import metric_of
from qcomp.debug.search import Search
from qcomp.debug.trials import Trials, answers_of
from qcomp.ends import taken_as
from qcomp.errors import CompileError
from qcomp.evaluation.labelled import Labelled, labelled
from qcomp.evaluation.labels import Classes
from qcomp.findings.find import of_data
from qcomp.findings.record import in_order
from qcomp.frontends import ModelLike, import_model
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.picture_bytes import with_picture_bytes
from qcomp.preprocessing import Preprocessing
from qcomp.recipes.choose import decide, evidence_for
from qcomp.recipes.file import with_recipe_file
from qcomp.targets.catalog import target as find_target
from qcomp.wide_sums import knows_sums


def bisect(
    model: ModelLike,
    metric: str = "sqnr",
    *,
    calibration: Source | None = None,
    data: Any = None,
    labels: Any = None,
    label_offset: int = 0,
    target: str = "native",
    config: QuantizationConfig | None = None,
    bind: Mapping[str, int] | None = None,
    bind_values: Mapping[str, ArrayLike] | None = None,
    samples: int | None = None,
    progress: bool = False,
) -> Bisection:
    """What costs a model its accuracy.

    metric: "sqnr", "agreement", "top1", or the path of a Python file with metric(outputs, labels);
        or "exact": whether the target's code is as specified on this machine.
    calibration, samples, config, bind, bind_values: as for `compile`; the recipe is "fast" unless
        the configuration says another, and the data must fit in memory.
    data, labels: what is measured on, as `qcomp.evaluate` takes them; by default the calibration
        data.
    label_offset: the output of class 0.
    target: as for `compile`.

    Raises CompileError.
    """
    config = with_recipe_file(config or QuantizationConfig(recipe="fast"))
    imported = import_model(model, bind=bind, bind_values=bind_values)
    if imported.form is not Form.FLOAT:
        raise CompileError(
            f"the model comes in form {imported.form.value}, where nothing is left to choose; "
            "expected a float model"
        )
    config = with_picture_bytes(config, pictures=is_pictures(calibration))
    graph = taken_as(imported.graph, imported.form, config)
    if not float_outputs(graph):
        raise CompileError(f"@{graph.name} has no output of type f32 to compare")
    evidence = evidence_for(graph, calibration, config, samples=samples, progress=progress)
    calibrated = None if evidence.data is None else tuple(evidence.data)
    if evidence.data is not None:
        config = dataclasses.replace(config, preprocessing=evidence.data.preprocessing)
    backend = find_target(target)
    trials = Trials(
        graph,
        imported.form,
        calibrated,
        config.input_range,
        imported.integers,
        rounds=config.arithmetic == ONNX,
    )
    config = decide(
        trials.quantizer(),
        config,
        backend.cost,
        progress=progress,
        sums=knows_sums(backend),
    ).config
    if metric == EXACT:
        integer = trials.quantizer().integer(config)
        return Exactness(integer, config, backend).search(progress=progress)
    found, runs = _measured_on(graph, data, labels, config.preprocessing, calibrated, metric)
    batch, classes = _batch(graph, runs), Classes.of(None, label_offset)
    measure = metric_of(metric, answers_of(graph, runs), batch, found, classes)
    findings = () if evidence.data is None else of_data(graph, evidence.data)
    noticed = tuple(map(str, in_order(findings)))
    search = Search(trials, config, measure, runs, noticed, data is not None, batch)
    return search.run(progress=progress)


def _measured_on(
    graph: Graph,
    data: Any,
    labels: Any,
    preprocessing: Preprocessing | None,
    calibrated: Sequence[Run] | None,
    metric: str,
) -> tuple[Labelled, Sequence[Run]]:
    """The runs with their labels; CompileError where there are none."""
    if data is None and metric.endswith(".py") and "data" in runpy.run_path(metric):
        data = metric
    if data is None:
        if not calibrated:
            raise CompileError("nothing to measure on; give calibration data, or data")
        return Labelled(None, [] if labels is None else list(labels)), calibrated
    found = labelled(data, labels, list(graph.inputs))
    types = {name: graph.type(id) for name, id in graph.inputs.items()}
    runs = tuple(Samples(found.source, types, preprocessing=preprocessing))
    return found, runs


def _batch(graph: Graph, runs: Sequence[Run]) -> int:
    types = {name: graph.type(id) for name, id in graph.inputs.items()}
    return Samples(list(runs[:1]), types).batch
