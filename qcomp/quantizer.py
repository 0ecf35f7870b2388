"""The one route from a model's graph to integers, through the stages of `qcomp.pipeline`.

    as imported -> normalized -> equalized -> QDQ -> integer

Compilation, trials of configurations and measurements of sensitivity all take it. What a stage
gives is kept by the fields of the configuration that it and the stages before it read, so that
configurations which differ later share what comes before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from qcomp.calibration.collect import KEPT
from qcomp.calibration.evidence import Evidence
from qcomp.calibration.statistics import Statistics, float_activations
from qcomp.config import QuantizationConfig
from qcomp.errors import CompileError
from qcomp.ir.form import Form
from qcomp.ir.given import GivenIntegers, is_quantized_already
from qcomp.ir.graph import Graph
from qcomp.passes.base import Observer, PassManager, PassRecord
from qcomp.passes.events import PassLog
from qcomp.passes.observers import Records, Tape
from qcomp.passes.own import OwnPass, placed
from qcomp.pipeline import (
    EQUALIZE,
    LOWER,
    NORMALIZE,
    QUANTIZE,
    RANGING,
    STAGES,
    Given,
    Stage,
    decided_ranges,
    expect_places,
    fits_weights,
    known_ranges,
    ranging,
    stages_from,
)
from qcomp.reconstruction.prefix import Sample, Samples
from qcomp.reconstruction.walk import FittingData

_MOST_KEPT = 8  # results of a stage


@dataclass(eq=False)
class Reached:
    """A graph on the route, how it was reached, and the values of the fields that led here."""

    graph: Graph
    evidence: Evidence
    records: Sequence[PassRecord] = ()
    tape: Tape = field(default_factory=Tape)
    values: tuple[Any, ...] = ()
    fitted_to: Samples | None = None

    @cached_property
    def statistics(self) -> Statistics:
        """Of the float graph."""
        return self.evidence.statistics(self.graph)


class Quantizer:
    """The graphs that follow from one model under any configuration without an "auto" field.

    imported: the model's graph, in `form`; it is never touched.
    evidence: where ranges and moments come from, and what layers are fitted to.
    cache: a directory that keeps layers whose rounding was learned.
    observers: see the import and each pass on the way to what `integer` gives; passes of trials
        that are not taken remain unseen.
    integers: those that the model has of constants, by their names.
    rounds: activations that have scales of the model's own are rounded to each of them.
    own: passes of the caller; PassError for places that this model's way does not have.
    whole: has all of the data that the evidence is a part of, and gives its equalized graphs, so
        that channels are scaled for all of it, once.
    whole_attention: whether attention becomes one op, which has one arithmetic, and which not all
        targets know.
    without: passes that are left out, by name, to see what they do.

    Graphs that it gives are shared: change a clone.
    """

    def __init__(
        self,
        imported: Graph,
        form: Form,
        evidence: Evidence,
        *,
        cache: Path | None = None,
        observers: Sequence[Observer] = (),
        own: Sequence[OwnPass] = (),
        whole: Quantizer | None = None,
        integers: Mapping[str, GivenIntegers] | None = None,
        rounds: bool = False,
        whole_attention: bool = True,
        without: Collection[str] = (),
    ) -> None:
        self.form = form
        self.evidence = evidence
        self._cache = cache
        self._own = own
        self._stages = stages_from(form)
        expect_places(self._stages, own)
        self._records = Records()
        self._observers = (*observers, self._records)
        self._start = Reached(PassManager(self._observers).begin(imported, form), evidence)
        self._pinned: Reached | None = None
        self._whole = whole
        self._integers, self._rounds = integers or {}, rounds
        self._whole_attention = whole_attention
        self._without = frozenset(without)
        self._kept: dict[str, list[Reached]] = {stage.name: [] for stage in STAGES}

    def keep_equalized(self, config: QuantizationConfig) -> None:
        """All configurations share the equalized graph of this one from now on.

        Equalization depends on bits; graphs of other bits are put together only if it does not.
        """
        self._pinned = self._equalized(config)

    def on(self, evidence: Evidence) -> Quantizer:
        """The same model on a part of the data, for trials: nothing of it is seen or kept."""
        return Quantizer(
            self.normalized,
            self.form,
            evidence,
            whole=self,
            integers=self._integers,
            rounds=self._rounds,
            whole_attention=self._whole_attention,
            own=self._own,
            without=self._without,
        )

    def alike(
        self, imported: Graph, evidence: Evidence, integers: Mapping[str, GivenIntegers]
    ) -> Quantizer:
        """For the same model in other shapes: nothing of it is seen or kept."""
        return Quantizer(
            imported,
            self.form,
            evidence,
            integers=integers,
            rounds=self._rounds,
            whole_attention=self._whole_attention,
            own=self._own,
            without=self._without,
        )

    @cached_property
    def normalized(self) -> Graph:
        """The float graph that all configurations share; a model in QDQ form as it is."""
        if NORMALIZE not in self._stages:
            return self._start.graph
        if self._whole is not None:
            return self._whole.normalized
        tape = Tape()
        tape.play(self._observers)
        anything = QuantizationConfig()  # the stage reads no field
        return self._next(NORMALIZE, self._start, anything, None, tape).graph

    def equalized(self, config: QuantizationConfig) -> Graph:
        """The float graph that is quantized."""
        return self._equalized(config).graph

    def statistics(self, config: QuantizationConfig) -> Statistics:
        """Of the activations of that graph."""
        return self._equalized(config).statistics

    def annotated(self, config: QuantizationConfig) -> Graph:
        """That graph with the range of every activation."""
        before = self._equalized(config)
        passes = ranging(config, self._given(before, None))
        passes = placed(passes, RANGING, self._own, QUANTIZE.needs)
        return PassManager().run(before.graph.clone(), passes)

    def quantized(self, config: QuantizationConfig, fitted_to: Samples | None = None) -> Graph:
        """The QDQ graph of a configuration.

        With samples to be fitted to, the first of the data, weights and biases are fitted layer by
        layer, as `integer` has it; without, no layer depends on how others were rounded.
        """
        return self._reach(QUANTIZE, config, fitted_to).graph

    def integer(self, config: QuantizationConfig) -> Graph:
        """The integer graph of a configuration, fitted to all of the data; observers see the way.

        CompileError where weights are to be fitted and there is no data.
        """
        data = self.evidence.data
        if data is None and fits_weights(config):
            raise CompileError(
                f"rounding={config.rounding!r}, weight_range={config.weight_range!r}: weights can "
                "be fitted to calibration data only; give some, or round to nearest"
            )
        reached = self._start
        for stage in self._stages:
            tape = Tape()
            tape.play(self._observers)
            reached = self._next(stage, reached, config, data, tape)
            reached.tape.play(self._observers)
        return reached.graph

    def lowered(self, config: QuantizationConfig) -> Callable[[], Graph] | None:
        """What gives the QDQ graph that `integer` lowers; None where the model is in integers."""
        if LOWER not in self._stages:
            return None
        graph = self.quantized(config, self.evidence.data)
        return lambda: graph

    def lowering(self, graph: Graph, config: QuantizationConfig) -> Graph:
        """What the last stage makes of another graph in QDQ form."""
        given = self._given(Reached(graph, self.evidence), None)
        passes = placed(LOWER.passes(config, given), LOWER.order, self._own, LOWER.needs)
        passes = [p for p in passes if p.name not in self._without]
        return PassManager().run(graph.clone(), passes)

    def fits(self, config: QuantizationConfig) -> bool:
        """Whether `integer` fits the weights of layers to data, which takes long."""
        return fits_weights(config)

    @property
    def records(self) -> tuple[PassRecord, ...]:
        """Of all that observers were told of, in order."""
        return tuple(self._records.kept)

    def record(self, name: str, log: PassLog, seconds: float) -> None:
        """Tell observers of a step that is no pass, such as the choice of a configuration."""
        for observer in self._observers:
            observer.recorded(PassRecord(name, log, seconds, self.form))

    def samples(self, config: QuantizationConfig) -> tuple[Sample, ...]:
        """The first few of the data, on which outputs are compared."""
        if self.evidence.data is None:
            return ()
        if EQUALIZE in self._stages and not is_quantized_already(self.normalized):
            return self.statistics(config).kept
        return self.evidence.data.first(KEPT)

    def notes(self, config: QuantizationConfig) -> tuple[str, ...]:
        """What ranges were taken from, and the assumptions made."""
        if EQUALIZE not in self._stages:
            return (f"the model comes in form {self.form.value}: its ranges are its own",)
        if (known := self._known(config)) is not None:
            return known
        graph = self.equalized(config)
        if self.evidence.data is None and decided_ranges(graph, config).keys() >= set(
            float_activations(graph)
        ):
            return ()
        statistics = self.statistics(config)
        if self.evidence.data is None:
            told = "no calibration data: ranges come from batch-norm statistics"
        else:
            told = f"calibrated on {statistics.samples * self.evidence.data.batch} samples"
        return (*statistics.notes, told)

    def _known(self, config: QuantizationConfig) -> tuple[str, ...] | None:
        """What a model that is quantized already brings along; None for another."""
        graph = self.equalized(config)
        if not is_quantized_already(graph):
            return None
        known, every = known_ranges(graph), float_activations(graph)
        told = f"{len(known)} of {len(every)} activations have the model's own scales"
        if len(known) == len(every):
            return (told,)
        if self.evidence.data is None:
            return (told, "no calibration data: the others' ranges come from batch-norm statistics")
        count = self.statistics(config).samples * self.evidence.data.batch
        return (told, f"the others are calibrated on {count} samples")

    def _equalized(self, config: QuantizationConfig) -> Reached:
        return self._reach(EQUALIZE, config, None)

    def _reach(self, last: Stage, config: QuantizationConfig, fitted_to: Samples | None) -> Reached:
        """What the stages up to `last` give; observers are told when it is taken, if ever."""
        _ = self.normalized  # is on every way, and was told of first
        reached = self._start
        for stage in self._stages:
            if STAGES.index(stage) <= STAGES.index(last):
                reached = self._next(stage, reached, config, fitted_to, Tape())
        return reached

    def _next(
        self,
        stage: Stage,
        before: Reached,
        config: QuantizationConfig,
        fitted_to: Samples | None,
        tape: Tape,
    ) -> Reached:
        """What a stage makes of what was reached; it is itself where there is nothing to do."""
        if stage is EQUALIZE and self._pinned is not None:
            return self._pinned
        if stage in (NORMALIZE, EQUALIZE) and self._whole is not None:
            return self._borrowed(stage, self._whole._reach(stage, config, None))
        fitted_to = fitted_to if stage.fits else before.fitted_to
        values = (*before.values, *(getattr(config, name) for name in stage.reads))
        kept = self._kept[stage.name]
        for reached in kept:
            if reached.values == values and reached.fitted_to is fitted_to:
                return reached
        fits = stage.fits and fitted_to is not None
        given = self._given(before, fitted_to if fits else None)
        passes = placed(stage.passes(config, given), stage.order, self._own, stage.needs)
        passes = [p for p in passes if p.name not in self._without]
        if not passes:
            return before
        manager = PassManager((tape,), list(before.records))
        graph = manager.run(before.graph.clone(), passes)
        reached = Reached(graph, self.evidence, manager.records, tape, values, fitted_to)
        self._kept[stage.name] = [*kept, reached][-_MOST_KEPT:]
        return reached

    def _borrowed(self, stage: Stage, theirs: Reached) -> Reached:
        """What the whole reached, with statistics of the part."""
        for reached in self._kept[stage.name]:
            if reached.graph is theirs.graph:
                return reached
        reached = replace(theirs, evidence=self.evidence)
        self._kept[stage.name] = [*self._kept[stage.name], reached][-_MOST_KEPT:]
        return reached

    def _given(self, before: Reached, fitted_to: Samples | None) -> Given:
        return Given(
            before.graph,
            self.evidence.moments,
            self.evidence.moments_of,
            lambda: before.statistics,
            None if fitted_to is None else self._fitting(before, fitted_to),
            self._integers,
            self._rounds,
            self._whole_attention,
        )

    def _fitting(self, before: Reached, samples: Samples) -> FittingData:
        """Trials, which are fitted to a few samples, show and keep nothing."""
        sampled = before.statistics.sampled
        assert sampled is not None  # where there are samples
        if samples is not self.evidence.data:
            return FittingData(before.graph, samples, sampled)
        shown, cache = self.evidence.progress, self._cache
        return FittingData(before.graph, samples, sampled, progress=shown, cache=cache)
