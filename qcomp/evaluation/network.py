"""What an evaluation asks of a compiled network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from qcomp.config import QuantizationConfig


class Tensor(Protocol):
    """An input or output of a compiled network."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def real(self) -> str: ...
    @property
    def is_quantized(self) -> bool: ...


class Network(Protocol):
    """A compiled network."""

    @property
    def name(self) -> str: ...
    @property
    def config(self) -> QuantizationConfig: ...
    @property
    def inputs(self) -> Sequence[Tensor]: ...
    @property
    def outputs(self) -> Sequence[Tensor]: ...
    @property
    def lacking(self) -> str | None: ...
    def __call__(self, x: Any) -> Any: ...
    def specification(self, x: Any) -> Any: ...
