"""Files of single operators whose scales, zero points and options are drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from operator_cases import Net

CLAMPS = (0, 0, 1, 2, 3)
"""Numbers of fused activations: none, RELU, RELU_N1_TO_1, RELU6."""

FUSING = (
    "AddOptions", "SubOptions", "MulOptions", "Conv2DOptions", "DepthwiseConv2DOptions",
    "FullyConnectedOptions", "Pool2DOptions",
)  # fmt: skip


@dataclass
class RandomNet(Net):
    """A net of integers; `one_scale` where the reference wants one scale for all operands."""

    one_scale: bool = False

    def scale(self, low: float, high: float) -> tuple[float, int]:
        if self.one_scale and self.builder.inputs:
            q = self.builder.tensors[self.builder.inputs[0]].quantization
            return float(q.scale[0]), int(q.zeroPoint[0])
        step, _ = super().scale(low, high)
        step = float(np.float32(step * 2 ** self.rng.uniform(-1.5, 1.5)))
        if self.dtype == np.int16:
            return step, 0
        limits = np.iinfo(self.dtype)
        low_only = self.low > 0  # functions of positive numbers
        zero = limits.min if low_only else self.rng.integers(limits.min, int(limits.max) + 1)
        return step, int(zero)

    def weights(self, *shape: int, axis: int = 0, x: float = 4 / 255) -> tuple[int, int]:
        """Steps as of `Net`, each times a factor of its own, and those of the bias with them."""
        w, bias = super().weights(*shape, axis=axis, x=x)
        q, of_bias = (self.builder.tensors[t].quantization for t in (w, bias))
        spread = 2 ** self.rng.uniform(-2, 1, len(q.scale))
        q.scale = np.float32(np.array(q.scale) * spread).tolist()
        of_bias.scale = (np.float32(q.scale) * np.float32(x)).tolist()
        if self.dtype == np.uint8:
            q.zeroPoint = [int(self.rng.integers(100, 160))]
        return w, bias

    def feeds(self) -> list[NDArray[Any]]:
        """None below zero where functions are of positive numbers."""
        feeds = super().feeds()
        positive = self.low > 0 and self.dtype == np.int16
        return [x // 2 + 2**14 for x in feeds] if positive else feeds

    def op(self, name: str, inputs: Sequence[int], *outputs: int, **options: Any) -> None:
        if options.get("table") in FUSING:
            options["fusedActivationFunction"] = int(self.rng.choice(CLAMPS))
        if "alpha" in options:
            options["alpha"] = float(np.float32(self.rng.uniform(-0.5, 1.5)))
        super().op(name, inputs, *outputs, **options)


@dataclass
class PerTensorNet(RandomNet):
    """One scale for the weights of all channels."""

    def weights(self, *shape: int, axis: int = 0, x: float = 4 / 255) -> tuple[int, int]:
        w, bias = super().weights(*shape, axis=axis, x=x)
        for tensor in (w, bias):
            q = self.builder.tensors[tensor].quantization
            q.scale, q.zeroPoint = q.scale[:1], [0]
        return w, bias
