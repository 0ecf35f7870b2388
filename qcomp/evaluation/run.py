"""`qcomp.evaluate`: networks on labelled data, one run after the other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qcomp.calibration.data import Source
from qcomp.calibration.runs import Inputs
from qcomp.calibration.samples import Samples
from qcomp.ends import taken_as
from qcomp.errors import CalibrationError
from qcomp.evaluation.labelled import Labelled, Metric, labelled
from qcomp.evaluation.labels import Classes
from qcomp.evaluation.meter import Meter
from qcomp.evaluation.network import Network, Tensor
from qcomp.evaluation.record import Evaluation
from qcomp.frontends import ModelLike, import_model
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import DType, TensorType
from qcomp.preprocessing import Preprocessing
from qcomp.progress import tracked


def evaluate(
    model: ModelLike | None,
    net: Network | None,
    data: Source,
    labels: ArrayLike | str | os.PathLike[str] | None = None,
    *,
    samples: int | None = None,
    preprocessing: Preprocessing | None = None,
    classes: str | os.PathLike[str] | None = None,
    label_offset: int = 0,
    metric: Metric | None = None,
    worst: int = 5,
    bind: Mapping[str, int] | None = None,
    bind_values: Mapping[str, ArrayLike] | None = None,
    progress: bool = False,
) -> Evaluation:
    """A float network, a compiled one, or both (None: not that one) on the same samples.

    data: what `calibration` takes, a folder with a folder of pictures for each class, an .npz with
        labels, a loader of `(x, label)`, or a Python file that defines `data`.
    labels: one for each sample, or a file of them; None: those of the data, if it has any.
    samples: so many at most; of files they are spread evenly.
    preprocessing: of pictures; by default that which the network was calibrated with.
    classes: a file with the name of each class on a line, in the order of the outputs.
    label_offset: the output of class 0.
    metric: called with all outputs (an array [N, ...], or a dict by name) and the labels; gives a
        number, or some by name.
    worst: how many of the samples are named on which the networks differ most.

    Raises CompileError: ModelError, CalibrationError.

    >>> found = qcomp.evaluate("net.onnx", net, "photos/")
    >>> found.of_integer.top1, found.agreement
    """
    if model is None and net is None:
        raise CalibrationError("nothing to evaluate: expected a model, a compiled network, or both")
    graph = None if model is None else _float_graph(model, net, bind, bind_values)
    if preprocessing is None and net is not None:
        preprocessing = net.config.preprocessing
    found, runs = _read(
        data, labels, _inputs(graph, net), samples, preprocessing, progress=progress
    )
    meaning, own = Classes.of(classes, label_offset), metric or found.metric
    meter = Meter(graph, net, runs, keeps_outputs=own is not None, most_named=worst)
    for run in tracked(runs, "evaluating", runs.expected, shown=progress):
        meter.add(run)
    return meter.result(found, meaning, own)


def _float_graph(
    model: ModelLike,
    net: Network | None,
    bind: Mapping[str, int] | None,
    bind_values: Mapping[str, ArrayLike] | None,
) -> Graph:
    """With inputs as the compiled network takes them, such as bytes of a camera."""
    imported = import_model(model, bind=bind, bind_values=bind_values)
    if net is None:
        return imported.graph
    return taken_as(imported.graph, imported.form, net.config)


def outputs_of(
    net: Network,
    data: Any,
    *,
    samples: int | None = None,
    preprocessing: Preprocessing | None = None,
    progress: bool = False,
) -> dict[str, NDArray[Any]]:
    """All outputs of a compiled network by name, on data as `evaluate` takes it."""
    _, runs = _read(data, None, _inputs(None, net), samples, preprocessing, progress=progress)
    answers = [net(dict(run)) for run in tracked(runs, "running", runs.expected, shown=progress)]
    return {
        o.name: np.concatenate([np.atleast_1d(a[o.name]) for a in answers]) for o in net.outputs
    }


def _read(
    data: Any,
    labels: Any,
    inputs: Inputs,
    samples: int | None,
    preprocessing: Preprocessing | None,
    *,
    progress: bool,
) -> tuple[Labelled, Samples]:
    """Data with its labels, and the runs that it makes."""
    found = labelled(data, labels, list(inputs), samples)
    limit = None if found.names else samples  # files are chosen already
    runs = Samples(
        found.source, inputs, preprocessing=preprocessing, samples=limit, progress=progress
    )
    return found, runs


def _inputs(graph: Graph | None, net: Network | None) -> Inputs:
    """The inputs of both; CalibrationError where they are not those of one model."""
    of_net = {} if net is None else {i.name: _type(i) for i in net.inputs}
    if graph is None:
        return of_net
    of_graph = {name: graph.type(id) for name, id in graph.inputs.items()}
    if net is not None and of_net != of_graph:
        raise CalibrationError(
            f"{net.name} takes {_told(of_net)}, and the model {_told(of_graph)}: expected the "
            "model that it was compiled from, with what was bound"
        )
    return of_graph


def _type(tensor: Tensor) -> TensorType:
    return TensorType(DType.F32 if tensor.is_quantized else _dtype(tensor.real), tensor.shape)


def _dtype(name: str) -> DType:
    return next(dtype for dtype in DType if dtype.numpy == np.dtype(name))


def _told(inputs: Inputs) -> str:
    return ", ".join(f"{name}: {type}" for name, type in inputs.items())
