"""Test vectors: integer inputs and what the specification answers, shipped beside the library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qcomp.runtime.interface import Answers, Array, Arrays, TensorInfo

_FROM_CALIBRATION = 2
_RANDOM = 1


class Specified(Protocol):
    """What vectors are made of: a network's description, samples and specification."""

    @property
    def inputs(self) -> tuple[TensorInfo, ...]: ...

    @property
    def outputs(self) -> tuple[TensorInfo, ...]: ...

    @property
    def samples(self) -> tuple[Mapping[str, Array], ...]: ...

    def quantized(self, x: Arrays) -> Answers: ...

    def specification_integer(self, x: Arrays) -> Any: ...


def edge_inputs(info: TensorInfo, kind: str) -> NDArray[np.integer]:
    """An input of extremes: "low", "high", "zero" (the zero point) or "alternating"."""
    low, high = info.limits
    values = {"low": [low], "high": [high], "zero": [info.zero_point], "alternating": [low, high]}
    size = int(np.prod(info.shape, dtype=np.int64))
    return info.within(np.resize(np.array(values[kind], info.dtype), size).reshape(info.shape))


def random_inputs(info: TensorInfo, random: np.random.Generator) -> NDArray[np.integer]:
    low, high = info.limits
    drawn: NDArray[np.integer] = random.integers(low, high + 1, info.shape, info.dtype)
    return info.within(drawn)


def make_vectors(net: Specified) -> dict[str, NDArray[Any]]:
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
