"""Reconstruction with torch: all cores, or a GPU. The only module that imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qcomp.reconstruction.engine import Value


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class TorchEngine:
    """Explicit gradients: nothing is recorded for differentiation."""

    device: str = field(default_factory=_device)
    xp: Any = torch

    @property
    def name(self) -> str:
        return f"torch {self.device}"

    def array(self, x: NDArray[Any]) -> Value:
        return torch.tensor(np.asarray(x, np.float32), device=self.device)

    def numpy(self, x: Value) -> NDArray[np.float32]:
        result: NDArray[np.float32] = x.cpu().numpy()
        return result
