"""The trials of a bisection, and what follows from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from qcomp.calibration.samples import Run
from qcomp.config import QuantizationConfig
from qcomp.debug.bisection import Bisection, Trial
from qcomp.debug.choices import Choice, choices, overrides
from qcomp.debug.inputs import treatments
from qcomp.debug.metrics import Metric
from qcomp.debug.trials import Trials, answers_of
from qcomp.errors import CompileError
from qcomp.progress import bar

BITS = ("activation_bits", "weight_bits", "first_last_weight_bits")  # what costs time or bytes
_MOST_CAUSES = 4
_FEW = 8  # overrides that are tried alone in any case
_ENOUGH = 0.9  # of the loss, that named causes explain
NARROW = "narrow-saturated-ranges"
# Passes that the later ones can do without, and whose work no field of the configuration turns off.
PASSES = (
    "fold-constants",
    "recompose-powers",
    "recompose-activations",
    "fold-batch-norm",
    "fuse-activation",
    "split-sliced-layers",
    NARROW,
)
_SAME_FUNCTION = 1e-3  # of the largest output, that rewriting floats may move one


@dataclass(eq=False)
class Search:
    """The trials of one bisection, and what follows from them."""

    trials: Trials
    config: QuantizationConfig
    metric: Metric
    runs: Sequence[Run]
    noticed: tuple[str, ...]
    separate: bool
    batch: int
    made: list[Trial] = field(default_factory=list)

    def run(self, *, progress: bool) -> Bisection:
        with bar("trying", shown=progress, counted=False) as steps:
            self._step: Callable[[], None] = steps.advance
            self.base = self._measured(self.config)
            reference = answers_of(self.trials.graph, self.runs)
            of_float = self.metric.of(reference) if self.metric.needs_labels else None
            causes = list(self._before_quantization(reference, of_float))
            together = None
            if not causes:
                best = self.metric.best if of_float is None else of_float
                causes, together = self._causes(best)
        return Bisection(
            metric=self.metric.name,
            unit=self.metric.unit,
            samples=len(self.runs) * self.batch,
            of_float=of_float,
            base=self.base,
            together=together,
            data=self.noticed,
            trials=tuple(self.made),
            causes=tuple(causes),
            verdict=self._verdict(causes, together, of_float),
        )

    def _measured(self, config: QuantizationConfig, without: Sequence[str] = ()) -> float:
        graph = self.trials.quantized(config, without)
        self._step()
        return self.metric.of(answers_of(graph, self.runs))

    def _tried(
        self, name: str, told: str, value: Callable[[], float], base: float | None = None
    ) -> Trial:
        """One trial, kept, over that of the configuration; what can't be made so has no value."""
        try:
            found = value()
        except CompileError as error:
            reason = str(error).splitlines()[0]
            trial = Trial(name, told, None, None, reason)
        else:
            trial = Trial(name, told, found, _gain(found, self.base if base is None else base))
        self.made.append(trial)
        return trial

    # ------------------------------------------------------- before quantization

    def _before_quantization(
        self, reference: Sequence[Mapping[str, Any]], of_float: float | None
    ) -> Iterator[str]:
        """What makes the float network wrong, or another one."""
        yield from self._changed_function(reference)
        if of_float is not None:
            better = self._better_data(of_float)
            yield from (t.name for t in sorted(better, key=lambda t: -(t.gain or 0.0)))

    def _changed_function(self, reference: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        """A rewriting of the float network that moves its outputs."""
        normalized = self.trials.quantizer().normalized
        moved = _moved(reference, answers_of(normalized, self.runs))
        if moved <= _SAME_FUNCTION:
            return
        for name in PASSES:
            part = self.trials.quantizer((name,)).normalized
            other = _moved(reference, answers_of(part, self.runs))
            if other <= _SAME_FUNCTION:
                told = f"moves outputs of the float network by {moved:.2g} of the largest"
                self.made.append(Trial(f"pass {name}", told, None, None))
                yield f"pass {name}"

    def _better_data(self, of_float: float) -> Iterator[Trial]:
        """The data as it may have been meant, where the float network does better on it."""
        for treatment in treatments(self.runs):
            runs = [treatment.of(run) for run in self.runs]

            def value(runs: Sequence[Run] = runs) -> float:
                self._step()
                return self.metric.of(answers_of(self.trials.graph, runs))

            told = f"of the float network: {treatment.told}"
            trial = self._tried(f"data: {treatment.name}", told, value, of_float)
            if trial.gain is not None and trial.gain >= self.metric.least:
                yield trial

    # ---------------------------------------------------------------- quantization

    def _causes(self, best: float | None) -> tuple[list[str], float | None]:
        """The changes that gain, alone and then together, until little is left to gain."""
        if best is not None and best - self.base < self.metric.least:
            return [], None
        for choice in self._choices():
            self._try_choice(choice)
        self._try_overrides()
        for name in PASSES:
            self._try_without(name)
        self._try_calibration()
        gained = [t for t in self.made if t.gain is not None and t.gain >= self.metric.least]
        free = [trial for trial in gained if trial.name not in BITS]
        if not gained:
            return [], None
        return self._together(max(free or gained, key=lambda trial: trial.gain or 0.0), best)

    def _choices(self) -> list[Choice]:
        return list(choices(self.config, has_data=self.trials.calibration is not None))

    def _try_overrides(self) -> None:
        """Each alone, where they are few or where all of them together cost something."""
        every = overrides(self.config)
        if len(every) > _FEW:
            none = self._tried(
                "all overrides",
                f"without the {len(every)} overrides",
                lambda: self._measured(dataclasses.replace(self.config, overrides={})),
            )
            if none.gain is not None and none.gain < self.metric.least:
                return
        for choice in every:
            self._try_choice(choice)

    def _try_without(self, name: str) -> None:
        """A pass that did nothing need not be left out."""
        whole, part = self.trials.quantizer(), self.trials.quantizer((name,))
        if name == NARROW or str(part.normalized) != str(whole.normalized):
            self._tried(f"pass {name}", "left out", lambda: self._measured(self.config, (name,)))

    def _try_choice(self, choice: Choice) -> None:
        self._tried(choice.name, choice.told, lambda: self._measured(choice.apply(self.config)))

    def _try_calibration(self) -> None:
        """Other calibration data than what is measured on may be in another form."""
        calibration = self.trials.calibration
        if calibration is None or not self.separate:
            return
        for treatment in treatments(calibration):
            trials = self.trials.on([treatment.of(run) for run in calibration])

            def value(trials: Trials = trials) -> float:
                self._step()
                return self.metric.of(answers_of(trials.quantized(self.config), self.runs))

            self._tried(f"calibration: {treatment.name}", treatment.told, value)

    def _together(self, first: Trial, best: float | None) -> tuple[list[str], float | None]:
        """The change that gains most, and those that gain more on top of it.

        Whether they gain alone does not matter: a large loss hides a small one.
        """
        left = {c.name: c for c in (*self._choices(), *overrides(self.config))}
        causes, value, config = [first.name], first.value, self.config
        assert value is not None
        chosen = left.pop(first.name, None)
        while chosen is not None and chosen.name not in BITS and len(causes) < _MOST_CAUSES:
            config = chosen.apply(config)
            if self._is_explained(value, best):
                break
            chosen, found = None, value
            for choice in left.values():
                if choice.name in BITS:
                    continue
                name = " and ".join((*causes, choice.name))
                measured = partial(self._measured, choice.apply(config))
                both = self._tried(name, choice.told, measured, value)
                if both.value is not None and _gain(both.value, found) > 0.0:
                    chosen, found = choice, both.value
            if chosen is None or _gain(found, value) < self.metric.least:
                break
            causes.append(chosen.name)
            value = found
            del left[chosen.name]
        return causes, value

    def _is_explained(self, value: float, best: float | None) -> bool:
        """Whether hardly any of the loss is left; without a best value it never is."""
        if best is None:
            return False
        return value - self.base >= _ENOUGH * (best - self.base)

    def _verdict(
        self, causes: Sequence[str], together: float | None, of_float: float | None
    ) -> str:
        unit, trials = self.metric.unit, {trial.name: trial for trial in self.made}
        shown = f"{self.base:.4g}{unit}"
        if causes and causes[0].startswith(("data: ", "pass ")) and together is None:
            first = trials[causes[0]]
            value = "" if first.value is None else f": {of_float:.4g} -> {first.value:.4g}{unit}"
            return f"{first}{value}"
        if causes:
            listed = " and ".join(str(trials[name]) for name in causes)
            return f"{listed}: {shown} -> {together:.4g}{unit}"
        best = self.metric.best if of_float is None else of_float
        if best is not None and best - self.base < self.metric.least:
            return f"nothing is lost: {shown}, of the float network {best:.4g}{unit}"
        return f"no pass or choice costs {self.metric.least:.2g}{unit} alone: {shown}"


def _gain(value: float, base: float) -> float:
    """The difference; that of equal infinities is 0."""
    return 0.0 if value == base else value - base


def _moved(reference: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]) -> float:
    """The largest difference of any output, over the largest output."""
    largest = difference = 0.0
    for wanted, got in zip(reference, answers, strict=True):
        for name, value in wanted.items():
            if value.dtype.kind == "f" and value.size:
                largest = max(largest, float(np.abs(value).max()))
                difference = max(difference, float(np.abs(value - got[name]).max()))
    return difference / largest if largest else difference
