"""From a model, data and a configuration to a problem."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from qcomp.calibration.data import is_pictures
from qcomp.calibration.estimators import expect_estimators
from qcomp.calibration.sequences import data_of
from qcomp.calibration.statistics import float_outputs
from qcomp.config import AUTO, ONNX, QuantizationConfig
from qcomp.ends import taken_as
from qcomp.errors import CompileError
from qcomp.frontends import import_model
from qcomp.ir.graph import Graph
from qcomp.own_passes import with_own_passes
from qcomp.picture_bytes import with_picture_bytes
from qcomp.precision.parts import Kind, parts_of, with_bits
from qcomp.precision.problem import Problem, Run, answers_of
from qcomp.quantizer import Quantizer
from qcomp.recipes.choose import decide, evidence_for
from qcomp.recipes.estimated_time import CostOf
from qcomp.recipes.file import with_recipe_file


class Preparation:
    """The float graph that `compile` quantizes, from which QDQ graphs of any bits are made.

    `config` has no field left "auto"; activations have 8 bits unless it is given others. `cost` is
    that of the target.
    """

    def __init__(
        self,
        model: Any,
        calibration: Any,
        config: QuantizationConfig | None,
        cost: CostOf,
        bind: Mapping[str, int] | None = None,
        bind_values: Mapping[str, Any] | None = None,
        progress: bool = False,
        samples: int | None = None,
    ) -> None:
        config = with_recipe_file(config or QuantizationConfig(recipe="fast"))
        expect_estimators(config)
        config, own = with_own_passes(config)
        if config.activation_bits == AUTO:
            config = dataclasses.replace(config, activation_bits=8)
        imported = import_model(model, bind=bind, bind_values=bind_values)
        config = with_picture_bytes(config, pictures=is_pictures(calibration))
        graph = taken_as(imported.graph, imported.form, config)
        if not float_outputs(graph):
            raise CompileError(f"@{graph.name} has no output of type f32 to compare")
        how = config.preprocessing
        data = data_of(graph, calibration, preprocessing=how, samples=samples)
        self.runs: tuple[Run, ...] = tuple(data)
        config = dataclasses.replace(config, preprocessing=data.preprocessing)
        evidence = evidence_for(graph, self.runs, config, progress=progress)
        self._quantizer = Quantizer(
            graph,
            imported.form,
            evidence,
            integers=imported.integers,
            rounds=config.arithmetic == ONNX,
            own=own,
        )
        self.config = decide(self._quantizer, config, cost, progress=progress).config
        self._quantizer.keep_equalized(self.config)
        self.graph = self._quantizer.equalized(self.config)

    def quantized(self, config: QuantizationConfig) -> Graph:
        """The QDQ graph of a configuration with no field "auto", other bits than `self.config`."""
        return self._quantizer.quantized(config)

    def problem(self, weight_bits: Sequence[int], activation_bits: Sequence[int]) -> Problem:
        """With a QDQ graph for each of the bits; all others are as configured."""
        configured = self.quantized(self.config)
        made = [(self.config, configured)]
        choices: dict[tuple[Kind, int], Graph] = {}
        for kind, all_bits in ((Kind.WEIGHTS, weight_bits), (Kind.ACTIVATION, activation_bits)):
            for bits in all_bits:
                config = with_bits(self.config, kind, bits)
                known = [graph for c, graph in made if c == config]
                if not known:
                    made.append((config, self.quantized(config)))
                choices[kind, bits] = known[0] if known else made[-1][1]
        return Problem(
            self.graph,
            tuple(parts_of(self.graph)),
            configured,
            choices,
            self.runs,
            tuple(answers_of(self.graph, self.runs)),
        )
