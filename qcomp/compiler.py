"""`compile(model, target)`: import, quantizer, target; nothing else."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from numpy.typing import ArrayLike

from qcomp.assessment import assess
from qcomp.calibration.data import Source, is_pictures
from qcomp.calibration.estimators import expect_estimators
from qcomp.calibration.evidence import Evidence
from qcomp.config import AUTO, NATIVE, ONNX, QuantizationConfig
from qcomp.dumping import dumping
from qcomp.ends import ends_outside, taken_as
from qcomp.findings.find import Demands
from qcomp.frontends import ModelLike, import_model
from qcomp.frontends.model import ImportedModel
from qcomp.frontends.torch_modules import exported, is_torch
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array
from qcomp.lengths import (
    Recorded,
    emitted,
    expect_plain,
    integers_at_each,
    normalized_at_each,
    split_bindings,
)
from qcomp.names import c_name, default_name
from qcomp.output_forms import with_indices
from qcomp.own_passes import told_of, with_own_passes
from qcomp.padding import COMPARED, padding_of
from qcomp.passes.base import Pass
from qcomp.passes.ledger import Ledger
from qcomp.passes.observers import Logged
from qcomp.passes.own import OwnPass
from qcomp.picture_bytes import with_picture_bytes
from qcomp.prepared import prepared
from qcomp.quantizer import Quantizer
from qcomp.recipes.calibration_table import table_of, with_table
from qcomp.recipes.choose import decide, evidence_for
from qcomp.recipes.file import with_recipe_file
from qcomp.report.make import advised
from qcomp.report.replay import Replay
from qcomp.runtime.network import CompiledNetwork, plans_of
from qcomp.states import states_note
from qcomp.targets.base import Target, tunable
from qcomp.whole_attention import knows_attention
from qcomp.wide_sums import knows_sums


def compile(
    model: ModelLike,
    target: str | Target = "native",
    *,
    calibration: Source | None = None,
    example_inputs: Sequence[ArrayLike] | None = None,
    config: QuantizationConfig | None = None,
    recipe: str | os.PathLike[str] | None = None,
    passes: Sequence[Pass | str] = (),
    after: str | None = None,
    bind: Mapping[str, int | Sequence[int]] | None = None,
    bind_values: Mapping[str, ArrayLike] | None = None,
    dump: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    object_cache: str | os.PathLike[str] | None = AUTO,
    name: str | None = None,
    strict: bool = False,
    min_sqnr_db: float | None = None,
    samples: int | None = None,
    tune: int = 0,
    tiles: str | os.PathLike[str] | None = None,
    advise: bool = False,
    taps: bool = False,
    progress: bool = False,
) -> CompiledNetwork:
    """From a trained float network to integer code.

    model: path or bytes of an ONNX or TFLite network, a ModelProto, a torch.nn.Module or a
        torch.export.ExportedProgram.
    target: one of qcomp.targets.catalog.TARGETS, the name that a package gives to its own, or a
        target itself.
    calibration: an iterable of arrays (or dicts, for several inputs), a directory of .npy, an
        .npz, pictures and sounds (`qcomp.data`), or a calibration table of ONNX Runtime (.json);
        None uses the batch-norm statistics of the
        model.
    example_inputs: for a module, arrays of the shapes that it is compiled for; by default the first
        of a list of calibration samples.
    recipe: instead of config.recipe: "auto", "fast", "data-free", "best" or the path of a file.
    passes: the caller's own, as objects or by the names that packages give them
        (docs/extending.md).
    after: the name of the pass of qcomp's that they come behind; each has a place of its own
        unless given.
    bind: extents of dynamic dimensions by name; one of them may have several, (16, 64, 128), and
        the library has a plan for each, on the same weights.
    bind_values: values of inputs by name, numbers or arrays; they become constants.
    dump: a directory that gets text, log and diff of every pass.
    cache: a directory that keeps layers whose rounding was learned, so that what was interrupted
        goes on.
    object_cache: a directory that keeps generated code from one compilation to the next; "auto" is
        a part of QCOMP_CACHE or of the user's caches, None generates all code anew.
    name: the C identifier that prefixes every symbol; the model's file name by default.
    strict: findings (`net.findings`) are an error.
    min_sqnr_db: an output or a part of one below so many decibels is an error.
    samples: of the calibration data, at most; those of a folder of pictures are spread evenly.
    tune: trials on the device at hand that choose how its kernels share work; targets of devices.
    tiles: a NAME.tiles.json of such a compilation, which is followed without a device.
    advise: `net.advice` says what to try next, with what each gains on some of the data.
    taps: the library tells of each tensor while it runs, to find where a device goes wrong.
    progress: bars on standard error.

    Raises CompileError: UnsupportedOp, ModelError, CalibrationError, PassError, TargetError,
    FindingsError.

    >>> net = qcomp.compile("net.onnx", calibration=qcomp.data.images("photos/", mean=0.5, std=0.5))
    >>> logits = net(images)
    """
    demands = Demands(strict, min_sqnr_db)
    config, own = _configured(config, recipe, passes, after)
    sizes, lengths = split_bindings(bind)
    expect_plain(lengths, {"taps": taps, "states": config.states})
    backend = prepared(
        target, lengths=lengths, tune=tune, tiles=tiles, taps=taps, object_cache=object_cache
    )
    if is_torch(model):
        model = exported(model, example_inputs, calibration)
    imported = import_model(model, bind=sizes, bind_values=bind_values)
    symbol = c_name(default_name(model) if name is None else name)
    config = with_picture_bytes(config, pictures=is_pictures(calibration))
    taken = taken_as(imported.graph, imported.form, config)
    config = replace(config, states=dict(taken.states))
    table = table_of(calibration)
    data = calibration if table is None else None
    evidence = Recorded.of(evidence_for(taken, data, config, samples=samples, progress=progress))
    if evidence.data is not None:
        config = replace(config, preprocessing=evidence.data.preprocessing)
    inside = ends_outside(taken, imported.form, evidence, float_tail=config.float_tail)
    inner = evidence.inside(inside)
    ledger = Ledger()
    quantizer = Quantizer(
        inside,
        imported.form,
        inner,
        cache=None if cache is None else Path(cache),
        integers=imported.integers,
        rounds=config.arithmetic == ONNX,
        whole_attention=config.arithmetic == NATIVE and knows_attention(backend),
        observers=(
            Logged(),
            *((ledger,) if dump is None else dumping(Path(dump), inside, inner, ledger)),
        ),
        own=own,
    )

    @functools.cache
    def imported_at(size: int) -> ImportedModel:
        bound = {**sizes, lengths.dimension: size}
        return import_model(model, bind=bound, bind_values=bind_values)

    def taken_at(size: int, config: QuantizationConfig = config) -> Graph:
        at = imported_at(size)
        return taken_as(at.graph, at.form, config)

    normals = normalized_at_each(lengths, imported_at, quantizer, evidence, config)
    config, tabled = with_table(quantizer, config, table)
    chosen = decide(quantizer, config, backend.cost, progress=progress, sums=knows_sums(backend))
    graph = with_indices(quantizer.integer(chosen.config), config.outputs)
    lowered = quantizer.lowered(chosen.config)
    shorter = integers_at_each(lengths, normals, quantizer, chosen.config)
    if tune:
        backend = tunable(backend).tuned(graph, tune)
    padded = padding_of(lengths, inside, taken_at, _first(evidence, COMPARED))
    artifact = emitted(backend, graph, shorter, lengths, symbol, padded.padding)
    net = CompiledNetwork(
        graph,
        artifact,
        backend.runtime,
        chosen.config,
        notes=(
            *imported.notes,
            *states_note(taken, imported.form),
            *_told(evidence),
            *tabled,
            *lengths.notes,
            *padded.notes,
            *quantizer.notes(chosen.config),
            *chosen.notes,
            *told_of(own, quantizer.records),
            *artifact.notes,
        ),
        records=quantizer.records,
        samples=_first(evidence, len(quantizer.samples(chosen.config))),
        stored_ledger=lambda: tuple(ledger.entries),
        shorter=plans_of(artifact, tuple(shorter.values()), backend.runtime, chosen.config),
        stored_qdq=None if lowered is None else lambda: with_indices(lowered(), config.outputs),
    )
    assess(net, taken, evidence.data, quantizer, demands, taken_at)
    if advise:
        net.advice = tuple(map(str, advised(net, Replay(taken, inside, quantizer, net.config))))
    return net


def _configured(
    config: QuantizationConfig | None,
    recipe: str | os.PathLike[str] | None,
    passes: Sequence[Pass | str],
    after: str | None,
) -> tuple[QuantizationConfig, tuple[OwnPass, ...]]:
    """With the recipe's fields, and the caller's passes that it names."""
    config = with_recipe_file(config or QuantizationConfig(), recipe)
    expect_estimators(config)
    return with_own_passes(config, passes, after)


def _told(evidence: Evidence) -> tuple[str, ...]:
    """What was left out of the data."""
    return () if evidence.data is None else evidence.data.notes


def _first(evidence: Evidence, count: int) -> tuple[Mapping[str, Array], ...]:
    """Samples in the caller's units."""
    return () if evidence.data is None else evidence.data.first(count)
