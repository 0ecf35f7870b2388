"""A small float network with every kind of layer, its QDQ form and samples."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qcomp.calibration.sampled import SampledMeans
from qcomp.config import QuantizationConfig
from qcomp.ir import DType, Graph, TensorType
from qcomp.ir.evaluate import evaluate_all
from qcomp.ir.ops import RELU, RELU6, Add, Conv2d, Dense, Op, Reduce, Reduction, Weighted
from qcomp.ir.tensor import Array
from qcomp.passes.base import run_pass
from qcomp.passes.insert_quantize import InsertQuantize
from qcomp.passes.snap_scales import SnapScales
from qcomp.reconstruction.walk import FittingData

SAMPLES = 12


@dataclass(frozen=True)
class Case:
    """A float graph, the QDQ graph of a configuration, and inputs."""

    float_graph: Graph
    qdq: Graph
    samples: list[dict[str, Array]]
    config: QuantizationConfig

    @property
    def data(self) -> FittingData:
        sampled = SampledMeans.of(self.float_graph, len(self.samples))
        for i, sample in enumerate(self.samples):
            sampled.update(i, evaluate_all(self.float_graph, sample))
        return FittingData(self.float_graph, self.samples, sampled)

    @property
    def layers(self) -> list[Weighted]:
        return [op for op in self.qdq.ops() if isinstance(op, Weighted)]


def float_network() -> Graph:
    """Convolution, depthwise, pointwise with a residual, grouped and strided, dense."""
    graph = Graph("small")
    random = np.random.default_rng(3)
    x = graph.add_input("image", TensorType(DType.F32, (1, 9, 9, 3)))

    def parameters(name: str, shape: tuple[int, ...]) -> tuple[str, str]:
        size = np.prod(shape[1:])
        weight = random.normal(0, 1.4 / np.sqrt(size), shape).astype(np.float32)
        bias = random.normal(0, 0.2, shape[0]).astype(np.float32)
        return graph.add_constant(f"{name}.w", weight), graph.add_constant(f"{name}.b", bias)

    def add(op: Op) -> str:
        return graph.add_op(op)

    same = (1, 1, 1, 1)
    a = add(
        Conv2d(inputs=(x, *parameters("a", (8, 3, 3, 3))), output="a", padding=same, clamp=RELU6)
    )
    b = add(
        Conv2d(
            inputs=(a, *parameters("b", (8, 3, 3, 1))),
            output="b",
            padding=same,
            groups=8,
            clamp=RELU,
        )
    )
    c = add(Conv2d(inputs=(b, *parameters("c", (8, 1, 1, 8))), output="c"))
    d = add(Add(inputs=(a, c), output="d"))
    e = add(
        Conv2d(
            inputs=(d, *parameters("e", (12, 3, 3, 4))),
            output="e",
            stride=(2, 2),
            padding=(0, 1, 1, 0),
            dilation=(1, 2),
            groups=2,
            clamp=RELU,
        )
    )
    f = add(Reduce(inputs=(e,), output="f", kind=Reduction.MEAN, axes=(1, 2), keepdims=False))
    graph.outputs["scores"] = add(Dense(inputs=(f, *parameters("g", (5, 12))), output="g"))
    return graph


def made(**choices: object) -> Case:
    """The network quantized with these choices, by default to 4 bits and nearest."""
    config = replace(
        QuantizationConfig(
            weight_bits=4,
            first_last_weight_bits=4,
            activation_bits=8,
            range="minmax",
            weight_range="minmax",
            rounding="nearest",
            bias_correction="empirical",
            equalize=False,
            absorb_bias=False,
        ),
        **choices,  # type: ignore[arg-type]
    )
    graph = float_network()
    random = np.random.default_rng(4)
    samples = [
        {"image": random.normal(0.3, 1, (1, 9, 9, 3)).astype(np.float32)} for _ in range(SAMPLES)
    ]
    annotated = graph.clone()
    seen = [evaluate_all(graph, sample) for sample in samples]
    for id in seen[0]:
        tensor = annotated.tensor(id)
        values = [s[id] for s in seen]
        extremes = float(min(v.min() for v in values)), float(max(v.max() for v in values))
        annotated.update_tensor(replace(tensor, range=extremes))
    qdq, _ = run_pass(annotated, InsertQuantize(config))
    if config.snap_scales:
        qdq, _ = run_pass(qdq, SnapScales())
    return Case(graph, qdq, samples, config)
