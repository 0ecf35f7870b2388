"""Test vectors: integer inputs and what the specification answers, shipped beside the library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.network import CompiledNetwork, TensorInfo

_FROM_CALIBRATION = 2
_RANDOM = 1


def edge_inputs(info: TensorInfo, kind: str) -> NDArray[np.int8]:
    """An input of extremes: "low", "high", "zero" (the zero point) or "alternating"."""
    values = {"low": [-128], "high": [127], "zero": [info.zero_point], "alternating": [-128, 127]}
    size = int(np.prod(info.shape, dtype=np.int64))
    return np.resize(np.array(values[kind], np.int8), size).reshape(info.shape)


def random_inputs(info: TensorInfo, random: np.random.Generator) -> NDArray[np.int8]:
    return random.integers(-128, 128, info.shape, np.int8)


def make_vectors(net: CompiledNetwork) -> dict[str, NDArray[Any]]:
    """`input_K` and `output_K`, the leading axis counts vectors; seeded, so builds repeat."""
    random = np.random.default_rng(0)
    names = [i.name for i in net.inputs]
    cases: list[Mapping[str, NDArray[Any]]] = []
    for sample in net.samples[:_FROM_CALIBRATION]:
        quantized = net.quantized(sample)
        assert isinstance(quantized, Mapping)
        cases.append(quantized)
    cases += [{i.name: random_inputs(i, random) for i in net.inputs} for _ in range(_RANDOM)]
    cases.append({i.name: edge_inputs(i, "alternating") for i in net.inputs})
    answers = [net.specification_integer(case) for case in cases]
    vectors = {f"input_{k}": np.stack([c[n] for c in cases]) for k, n in enumerate(names)}
    for k, output in enumerate(net.outputs):
        vectors[f"output_{k}"] = np.stack([a[output.name] for a in answers])
    return vectors
