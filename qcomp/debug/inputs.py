"""Inputs in another scale or with channels in another order, as they are often given by mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qcomp.calibration.samples import Run
from qcomp.ir.tensor import Array

_COLOURS = 3
_BYTES = 16.0  # a largest value above which inputs are taken for 0..255


@dataclass(frozen=True)
class Treatment:
    """What is done to every input of floats; `told` says what the data would have been."""

    name: str
    told: str
    apply: Callable[[Array], Array]

    def of(self, run: Run) -> Run:
        return {name: self.apply(x) if x.dtype.kind == "f" else x for name, x in run.items()}


def treatments(runs: Sequence[Run]) -> Iterator[Treatment]:
    """Those that the values and shapes of samples suggest."""
    reals = [x for run in runs for x in run.values() if x.dtype.kind == "f"]
    if not reals:
        return
    low, high = min(float(x.min()) for x in reals), max(float(x.max()) for x in reals)
    for name, apply in _scales(low, high).items():
        yield Treatment(f"inputs {name}", "the data is in another scale", _as_float32(apply))
    if any(_colours(x) is not None for x in reals):
        yield Treatment("channels reversed", "the data has channels in another order", _reversed)


def _scales(low: float, high: float) -> Mapping[str, Callable[[Array], Array]]:
    if high > _BYTES:
        return {"/ 255": lambda x: x / 255, "/ 127.5 - 1": lambda x: x / 127.5 - 1}
    if low >= 0.0:
        return {"* 255": lambda x: x * 255, "* 2 - 1": lambda x: x * 2 - 1}
    return {"* 127.5 + 127.5": lambda x: (x + 1) * 127.5, "/ 2 + 0.5": lambda x: (x + 1) / 2}


def _as_float32(apply: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda x: apply(x).astype(np.float32)


def _colours(x: Array) -> int | None:
    """The axis of three channels of images."""
    return next((axis for axis in (1, 3) if x.ndim == 4 and x.shape[axis] == _COLOURS), None)


def _reversed(x: Array) -> Array:
    axis = _colours(x)
    return x if axis is None else np.ascontiguousarray(np.flip(x, axis))
