"""`compile(model, target)`: import, passes, target; nothing else."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.calibration.evidence import Evidence
from qcomp.calibration.samples import Samples, samples_of
from qcomp.config import QuantizationConfig
from qcomp.errors import CompileError
from qcomp.frontends import import_model
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.network import CompiledNetwork, TensorInfo
from qcomp.passes.base import Answers, PassLog, PassManager
from qcomp.pipeline import (
    equalizing_passes,
    fits_weights,
    lowering_passes,
    normalizing_passes,
    qdq_passes,
)
from qcomp.quant.metrics import sqnr_db
from qcomp.recipes.choose import Chosen, choose
from qcomp.recipes.file import with_recipe_file
from qcomp.recipes.named import DATA_FREE
from qcomp.recipes.overrides import check_overrides, spread_ranges
from qcomp.recipes.search import MOST_SAMPLES
from qcomp.recipes.workbench import Workbench
from qcomp.reconstruction.walk import FittingData
from qcomp.targets.catalog import target as find_target

Feed = Mapping[str, NDArray[Any]]
Answering = Callable[[Feed], Any]

LONGEST_NAME = 100
# Names of the headers of C11 and of the POSIX ones that these include.
C_HEADERS = """
    alloca assert complex ctype endian errno features fenv float inttypes iso646 limits locale
    malloc math memory pthread sched setjmp signal stdalign stdarg stdatomic stdbool stddef stdint
    stdio stdlib stdnoreturn string strings tgmath threads time uchar unistd wchar wctype
"""


def compile(
    model: Any,
    target: str = "native",
    *,
    calibration: Any = None,
    config: QuantizationConfig | None = None,
    recipe: str | os.PathLike[str] | None = None,
    bind: Mapping[str, int] | None = None,
    dump: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    name: str | None = None,
    progress: bool = False,
) -> CompiledNetwork:
    """From a trained float network to integer code.

    model: path, bytes or ModelProto of an ONNX network.
    target: one of qcomp.targets.catalog.TARGETS.
    calibration: an iterable of arrays (or dicts, for several inputs), a directory of .npy, or an
        .npz; None uses the batch-norm statistics of the model.
    recipe: instead of config.recipe: "auto", "fast", "data-free", "best" or the path of a file.
    bind: extents of dynamic dimensions by name.
    dump: a directory that gets text, log and diff of every pass.
    cache: a directory that keeps layers whose rounding was learned, so that what was interrupted
        goes on.
    name: the C identifier that prefixes every symbol; the model's file name by default.

    Raises CompileError: UnsupportedOp, ModelError, CalibrationError, PassError, TargetError.
    """
    config = with_recipe_file(config or QuantizationConfig(), recipe)
    backend = find_target(target)
    imported = import_model(model, bind=bind)
    symbol = c_name(_default_name(model) if name is None else name)
    with_data = calibration is not None and config.recipe != DATA_FREE
    data = samples_of(imported.graph, calibration) if with_data else None
    inputs = config.input_range
    manager = PassManager()
    if dump is not None:
        manager = PassManager(Path(dump), _answers(imported.graph, data, inputs))
    graph = manager.begin(imported.graph, Form.FLOAT)
    manager.run(graph, normalizing_passes())
    check_overrides(graph, config)
    config = spread_ranges(graph, config)
    evidence = Evidence(data, inputs, progress)
    bench = Workbench(graph.clone(), evidence.statistics, evidence.moments)
    chosen = _chosen(bench, config, data, manager, progress)
    config = chosen.config
    manager.run(graph, equalizing_passes(config, bench.moments))
    _, statistics = bench.prepared(config)
    fitting = _fitting_data(graph, data, config, cache, progress)
    manager.run(graph, [*qdq_passes(config, statistics, graph, fitting), *lowering_passes()])
    artifact = backend.emit(graph, symbol)
    if data is None:
        calibrated = "no calibration data: ranges come from batch-norm statistics"
    else:
        calibrated = f"calibrated on {statistics.samples} samples"
    net = CompiledNetwork(
        graph,
        artifact,
        backend.runtime,
        config,
        notes=(*imported.notes, *statistics.notes, calibrated, *chosen.notes),
        records=tuple(manager.records),
        samples=statistics.kept,
    )
    if statistics.kept:
        answers: Answering = net
        if (lacking := net.lacking) is not None:
            answers = net.specification
            net.notes += (f"the output SQNR is that of the specification: {lacking}",)
        kept = statistics.kept
        net.sqnr_db_output = output_sqnr_db(imported.graph, net.outputs, answers, kept)
    return net


def _chosen(
    bench: Workbench,
    config: QuantizationConfig,
    data: Samples | None,
    manager: PassManager,
    progress: bool,
) -> Chosen:
    """The configuration with no field left "auto"; how it came about is a record of its own."""
    log, began = PassLog(), time.perf_counter()
    few = () if data is None else data.first(MOST_SAMPLES)
    chosen = choose(bench, config, few, log, progress=progress)
    manager.record("recipe", log, time.perf_counter() - began)
    return chosen


def _fitting_data(
    graph: Graph,
    data: Samples | None,
    config: QuantizationConfig,
    cache: str | os.PathLike[str] | None,
    progress: bool,
) -> FittingData | None:
    """What layers are fitted to; CompileError where that is asked for and there is no data."""
    if data is not None:
        directory = None if cache is None else Path(cache)
        return FittingData(graph.clone(), data, progress=progress, cache=directory)
    if fits_weights(config):
        raise CompileError(
            f"rounding={config.rounding!r}, weight_range={config.weight_range!r}: weights can be "
            "fitted to calibration data only; give some, or round to nearest"
        )
    return None


def _answers(graph: Graph, data: Samples | None, input_range: tuple[float, float]) -> Answers:
    """How float graphs answer the first sample, or random numbers where there is no data."""
    from qcomp.export.session import FloatSession

    if data is not None:
        (sample,) = data.first(1)
    else:
        random = np.random.default_rng(0)
        types = {name: graph.type(id) for name, id in graph.inputs.items()}
        sample = {
            name: random.uniform(*input_range, t.shape).astype(t.dtype.numpy)
            for name, t in types.items()
        }
    return lambda changed: FloatSession(changed, threads=1).run(sample)


def output_sqnr_db(
    imported: Graph, outputs: Iterable[TensorInfo], answers: Answering, samples: Iterable[Feed]
) -> float | None:
    """SQNR of what the network answers against the float network as imported, over all samples.

    None where no output is quantized (an ArgMax gives indices), and where the ratio is infinite, as
    JSON has no such number: nothing differs, or the float outputs are all 0.
    """
    from qcomp.export.session import FloatSession

    session = FloatSession(imported)
    reference, answer = [], []
    for sample in samples:
        expected, got = session.run(sample), answers(sample)
        for output in outputs:
            if output.is_quantized:
                reference.append(expected[output.name].ravel())
                answer.append(got[output.name].ravel())
    if not reference:
        return None
    ratio = sqnr_db(np.concatenate(reference), np.concatenate(answer))
    return ratio if math.isfinite(ratio) else None


def _default_name(model: Any) -> str:
    if isinstance(model, str | os.PathLike):
        return Path(model).stem
    return "network"


def c_name(text: str) -> str:
    """A C identifier from any text; CompileError where nothing is left of it, or too much.

    Leading underscores are the C library's (C99 7.1.3), and so are the names of its headers: the
    directory of the network is on the search path, where NAME.h must not hide one of them.
    """
    name = re.sub(r"[^A-Za-z0-9_]", "_", text)
    if not re.search(r"[A-Za-z0-9]", name):
        raise CompileError(f"{text!r} gives no C identifier; give a name")
    if len(name) > LONGEST_NAME:
        raise CompileError(
            f"a name of {len(name)} characters: {text[:20]}...; give one of up to {LONGEST_NAME}"
        )
    if not name[0].isalpha() or name.lower() in C_HEADERS.split():
        return f"net_{name}"
    return name
