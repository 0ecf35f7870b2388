"""What every importer gives, whichever format the model comes in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import ArrayLike

from qcomp.frontends.inspect import Inspection
from qcomp.ir.form import Form
from qcomp.ir.given import GivenIntegers
from qcomp.ir.graph import Graph


@dataclass(frozen=True)
class ImportedModel:
    """A graph in the model's own layout, its form, and what was decided on the way.

    `integers` are those that constants of a FLOAT graph have in the model, by the constant's name.
    """

    graph: Graph
    form: Form
    notes: tuple[str, ...]
    integers: Mapping[str, GivenIntegers] = field(default_factory=dict)


class Importer(Protocol):
    """Reads the models of one format."""

    def __call__(
        self,
        model: Any,
        *,
        bind: Mapping[str, int] | None,
        bind_values: Mapping[str, ArrayLike] | None,
    ) -> ImportedModel:
        """A verified graph of a file, its bytes, or an object of the format's own library.

        `bind` gives sizes to dynamic dimensions, `bind_values` values to inputs. Raises ModelError
        for a broken model and UnsupportedOp with all that is unsupported at once.
        """
        ...


class Inspector(Protocol):
    """Describes the models of one format."""

    def __call__(
        self,
        model: Any,
        *,
        bind: Mapping[str, int] | None,
        bind_values: Mapping[str, ArrayLike] | None,
    ) -> Inspection:
        """What a model is made of; ModelError for a broken one only."""
        ...
