"""Where the arithmetic of reconstruction runs: numpy, or torch where it is installed.

Both have functions of the same names and meanings, with `out=`, for all that is needed here; an
engine is that set of names and the way to and from numpy arrays. The algorithms are written once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Value = Any  # an array of an engine: numpy.ndarray or torch.Tensor


class Engine(Protocol):
    """`xp` has matmul, tanh, clip, multiply, ... ; arrays are f32."""

    @property
    def name(self) -> str: ...

    @property
    def xp(self) -> Any: ...

    def array(self, x: NDArray[Any]) -> Value:
        """A copy as an f32 array of the engine."""
        ...

    def numpy(self, x: Value) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class NumpyEngine:
    """One thread but for the products of large matrices."""

    name: str = "numpy"
    xp: Any = np

    def array(self, x: NDArray[Any]) -> Value:
        return np.array(x, np.float32)

    def numpy(self, x: Value) -> NDArray[np.float32]:
        return np.asarray(x)
