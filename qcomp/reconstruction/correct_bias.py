"""Take back the mean error of each output channel, as measured.

Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019,
appendix D: layer by layer, the bias becomes that with which the quantized network gives what the
float network does on average (bias.py), with all layers before it corrected already. So it also
takes back what rounded activations, and the layers before, have moved.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from qcomp.calibration.sampled import RUNS
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Mark
from qcomp.passes.events import PassLog
from qcomp.passes.lib.qdq import result_qparams, why_no_mean_error
from qcomp.reconstruction.activation import activation_of, seen_result
from qcomp.reconstruction.bias import bias_of_mean
from qcomp.reconstruction.blocks import blocks
from qcomp.reconstruction.layer import QuantizedLayer, suitable_layers
from qcomp.reconstruction.rows import Read
from qcomp.reconstruction.walk import FittingData, Walk


@dataclass(frozen=True)
class CorrectBiasEmpirically:
    """See the module. Layers whose bias was corrected when they were rounded are left alone."""

    name: ClassVar[str] = "correct-bias-empirically"
    needs: ClassVar[Form] = Form.QDQ
    gives: ClassVar[Form] = Form.QDQ

    data: FittingData

    def run(self, graph: Graph, log: PassLog) -> None:
        layers = suitable_layers(graph, Mark.CORRECTED, log, partial(why_no_mean_error, graph))
        for layer, inputs in Walk(graph, layers, self.data, "correcting biases", RUNS):
            moved = self._correct(QuantizedLayer(graph, layer, self.data.float_graph), inputs)
            steps = moved / result_qparams(graph, layer.output).scale
            told = f"{layer.id}: bias moved by at most {steps:.3g} output steps"
            log.did(told, op=layer.id, steps=steps)

    def _correct(self, view: QuantizedLayer, inputs: Iterable[Read]) -> float:
        """How far the bias moved."""
        seen, sampled = seen_result(view.graph, view.layer), self.data.sampled
        activation, weight = activation_of(view.graph, view.layer), view.rounded
        read, place = list(inputs), sampled.places[seen]
        wanted = sampled.mean(seen, len(read)).reshape(view.layer.groups, -1)
        rows = blocks(view.layer, view.kernel, place, read)
        return view.write_bias(bias_of_mean(rows, weight, view.unrounded, wanted, activation))
