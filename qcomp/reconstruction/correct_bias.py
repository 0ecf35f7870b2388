"""Take back the mean error of each output channel, as measured.

Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019,
appendix D: layer by layer, the bias becomes that with which the quantized network gives what the
float network does on average (bias.py), with all layers before it corrected already. So it also
takes back what rounded activations, and the layers before, have moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Mark
from qcomp.passes.events import PassLog
from qcomp.passes.lib.qdq import result_qparams
from qcomp.reconstruction.activation import activation_of
from qcomp.reconstruction.bias import corrected_bias
from qcomp.reconstruction.layer import QuantizedLayer, suitable_layers
from qcomp.reconstruction.walk import FittingData, walk

SAMPLES = 100  # with 32, maps of few pixels have too rough means: MobileNetV2 loses 1.4 dB
ROWS = 8192  # those of one image are alike, so that a mean takes many


@dataclass(frozen=True)
class CorrectBiasEmpirically:
    """See the module. Layers whose bias was corrected when they were rounded are left alone."""

    name: ClassVar[str] = "correct-bias-empirically"
    needs: ClassVar[Form] = Form.QDQ
    gives: ClassVar[Form] = Form.QDQ

    data: FittingData

    def run(self, graph: Graph, log: PassLog) -> None:
        layers = suitable_layers(graph, Mark.CORRECTED, log)
        fitted = walk(graph, layers, self.data, "correcting biases", rows=ROWS, samples=SAMPLES)
        for layer, rows in fitted:
            view = QuantizedLayer(graph, layer, self.data.float_graph)
            bias = corrected_bias(rows, view.rounded, activation_of(graph, layer))
            moved = view.write_bias(bias)
            step = result_qparams(graph, layer.output).scale
            steps = moved / step
            told = f"{layer.id}: bias moved by at most {steps:.3g} output steps"
            log.did(told, op=layer.id, steps=steps)
