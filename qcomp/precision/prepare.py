"""From a model, data and a configuration to a problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from qcomp.calibration.data import open_calibration
from qcomp.calibration.statistics import Statistics
from qcomp.config import QuantizationConfig
from qcomp.errors import CompileError
from qcomp.frontends import import_model
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.passes.base import PassManager
from qcomp.pipeline import equalizing_passes, normalizing_passes, qdq_passes
from qcomp.precision.cut import float_outputs
from qcomp.precision.parts import Kind, parts_of, with_bits
from qcomp.precision.problem import Problem, Run, answers_of
from qcomp.recipes.file import with_recipe_file
from qcomp.recipes.named import settled
from qcomp.recipes.overrides import check_overrides


class Preparation:
    """The float graph and its statistics, from which QDQ graphs of any bits are made."""

    def __init__(
        self,
        model: Any,
        calibration: Any,
        config: QuantizationConfig | None,
        bind: Mapping[str, int] | None = None,
        progress: bool = False,
    ) -> None:
        from qcomp.calibration.collect import collect
        from qcomp.calibration.moments import SAMPLES, measured_moments

        config = with_recipe_file(config or QuantizationConfig())
        self.config = settled(config, calibrated=True)
        manager = PassManager()
        self.graph = manager.begin(import_model(model, bind=bind).graph, Form.FLOAT)
        manager.run(self.graph, normalizing_passes())
        check_overrides(self.graph, self.config)
        if not float_outputs(self.graph):
            raise CompileError(f"@{self.graph.name} has no output of type f32 to compare")
        inputs = {name: self.graph.type(id) for name, id in self.graph.inputs.items()}
        self.runs: tuple[Run, ...] = tuple(open_calibration(calibration, inputs))
        moments = partial(measured_moments, samples=self.runs[:SAMPLES])
        manager.run(self.graph, equalizing_passes(self.config, moments))
        self.statistics: Statistics = collect(self.graph, self.runs, progress=progress)

    def quantized(self, config: QuantizationConfig) -> Graph:
        """The QDQ graph of a configuration with no field "auto"."""
        passes = qdq_passes(config, self.statistics, self.graph)
        return PassManager().run(self.graph.clone(), passes)

    def problem(self, weight_bits: Sequence[int], activation_bits: Sequence[int]) -> Problem:
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
