"""What data has to know of a network: the shapes of its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from qcomp.errors import CalibrationError
from qcomp.preprocessing import Preprocessing


class Shaped(Protocol):
    """A type of tensors."""

    @property
    def shape(self) -> tuple[int, ...]: ...


Shapes = Mapping[str, Shaped]


@runtime_checkable
class ForInputs(Protocol):
    """Samples that are made for the inputs of a network, one at a time."""

    def for_inputs(self, inputs: Shapes) -> Iterator[Mapping[str, NDArray[Any]]]:
        """A sample for each item, by the name of the input; without the batch's axis or with it."""
        ...

    def preprocessing_for(self, inputs: Shapes) -> Preprocessing | None:
        """How pictures become inputs, where that is what is done."""
        ...


def only_input(inputs: Shapes, what: str) -> tuple[str, tuple[int, ...]]:
    """The name and the shape of the one input; CalibrationError where there are several."""
    if len(inputs) != 1:
        raise CalibrationError(
            f"{what} are for networks of one input, and this one has {', '.join(inputs)}; give "
            "arrays by name (.npz), or qcomp.data.samples with a transform"
        )
    ((name, type),) = inputs.items()
    return name, tuple(type.shape)
