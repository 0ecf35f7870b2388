"""One library for several lengths of one dimension: decided at the largest, carried to the others.

`bind={"S": (16, 64, 128)}` quantizes the network at 128. The integer networks of the other lengths
have its scales, weights and widths (qcomp/ir/at_length.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from qcomp.calibration.evidence import Evidence
from qcomp.config import QuantizationConfig
from qcomp.ends import ends_outside, taken_as
from qcomp.errors import CalibrationError, CompileError, ModelError
from qcomp.frontends.model import ImportedModel
from qcomp.ir.at_length import at_length
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.padding import Padding
from qcomp.ir.tensor import TensorId
from qcomp.output_forms import with_indices
from qcomp.quant.moments import Moments
from qcomp.quantizer import Quantizer
from qcomp.targets.base import Artifact, Target, lengthwise

_Moments = Mapping[TensorId, Moments]
_Answer = _Moments | CalibrationError


@dataclass(frozen=True)
class Lengths:
    """A dimension and its lengths, from the largest to the smallest; none where each has one."""

    dimension: str = ""
    sizes: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return len(self.sizes) > 1

    @property
    def largest(self) -> int:
        return self.sizes[0]

    @property
    def shorter(self) -> tuple[int, ...]:
        return self.sizes[1:]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user is told of."""
        if not self:
            return ()
        return (f"a plan for each of {self} of {self.dimension}, on the same weights",)

    def __str__(self) -> str:
        *others, last = map(str, sorted(self.sizes))
        return f"{', '.join(others)} and {last}"


def split_bindings(
    bind: Mapping[str, int | Sequence[int]] | None,
) -> tuple[dict[str, int], Lengths]:
    """Sizes at the largest length, and the lengths where one dimension has several."""
    sizes: dict[str, Any] = dict(bind or {})
    lengths = Lengths()
    for name, given in sizes.items():
        if isinstance(given, str) or not isinstance(given, Sequence):
            continue
        if not given or len(set(given)) != len(given):
            raise ModelError(f"dimension {name!r} has the sizes {given}; expected different ones")
        if any(isinstance(size, bool) or not isinstance(size, int) for size in given):
            raise ModelError(f"dimension {name!r} has the sizes {given}; expected whole numbers")
        if len(given) > 1 and lengths:
            raise ModelError(
                f"dimensions {lengths.dimension!r} and {name!r} have several sizes; expected one"
            )
        ordered = tuple(sorted(given, reverse=True))
        sizes[name] = ordered[0]
        if len(given) > 1:
            lengths = Lengths(name, ordered)
    return sizes, lengths


def expect_plain(lengths: Lengths, wanted: Mapping[str, object]) -> None:
    """CompileError for what a library of several lengths has not, by name, where it is wanted."""
    named = [name for name, value in wanted.items() if value]
    if lengths and named:
        raise CompileError(
            f"several lengths of {lengths.dimension} ({lengths}) with {', '.join(named)}; expected "
            "one length, or a library without"
        )


@dataclass(frozen=True)
class Recorded(Evidence):
    """Keeps the moments that it is asked for, in order."""

    answers: list[_Answer] = field(default_factory=list)

    @staticmethod
    def of(evidence: Evidence) -> Recorded:
        return Recorded(evidence.data, evidence.input_range, evidence.progress)

    def moments(self, graph: Graph) -> _Moments:
        return self._kept(lambda: Evidence.moments(self, graph))

    def moments_of(self, graph: Graph, ids: Collection[TensorId]) -> _Moments:
        return self._kept(lambda: Evidence.moments_of(self, graph, ids))

    def _kept(self, asked: Callable[[], _Moments]) -> _Moments:
        try:
            self.answers.append(found := asked())
        except CalibrationError as error:
            self.answers.append(error)
            raise
        return found


@dataclass(frozen=True)
class Repeated(Evidence):
    """Answers as another one did, for the same graph at another length: no pass decides anew."""

    answers: list[_Answer] = field(default_factory=list)

    @staticmethod
    def of(recorded: Sequence[_Answer]) -> Repeated:
        return Repeated(None, (-1.0, 1.0), answers=list(recorded))

    def moments(self, graph: Graph) -> _Moments:
        return self._next()

    def moments_of(self, graph: Graph, ids: Collection[TensorId]) -> _Moments:
        return self._next()

    def _next(self) -> _Moments:
        if not self.answers:
            raise CompileError(
                "the network is rewritten in another way at another length; expected one of the "
                "same ops at each"
            )
        answer = self.answers.pop(0)
        if isinstance(answer, CalibrationError):
            raise answer
        return answer


def normalized_at_each(
    lengths: Lengths,
    imported_at: Callable[[int], ImportedModel],
    quantizer: Quantizer,
    recorded: Recorded,
    config: QuantizationConfig,
) -> dict[int, Graph]:
    """The float graph of each shorter length, as the quantizer's own is before it is quantized.

    recorded: the evidence of the quantizer. CompileError where the network is another one there.
    """
    if not lengths:
        return {}
    if quantizer.form is Form.INTEGER:
        raise CompileError(
            f"several lengths of {lengths.dimension}: the model comes in integers; expected a "
            "float model or one in QDQ form"
        )
    known = quantizer.normalized
    answers = tuple(recorded.answers)
    found = {}
    for size in lengths.shorter:
        imported = imported_at(size)
        repeated = Repeated.of(answers)
        taken = taken_as(imported.graph, imported.form, config)
        inside = ends_outside(taken, imported.form, repeated, float_tail=config.float_tail)
        normal = quantizer.alike(inside, repeated, imported.integers).normalized
        with _named(lengths, size):
            at_length(known, known, normal)
        found[size] = normal
    return found


def integers_at_each(
    lengths: Lengths,
    normals: Mapping[int, Graph],
    quantizer: Quantizer,
    config: QuantizationConfig,
) -> dict[int, Graph]:
    """The integer graph of each shorter length."""
    found: dict[int, Graph] = {}
    if not normals:
        return found
    qdq = quantizer.quantized(config, quantizer.evidence.data)
    for size, normal in normals.items():
        with _named(lengths, size):
            shaped = at_length(qdq, quantizer.normalized, normal)
        found[size] = with_indices(quantizer.lowering(shaped, config), config.outputs)
    return found


def emitted(
    target: Target,
    graph: Graph,
    others: Mapping[int, Graph],
    lengths: Lengths,
    name: str,
    padding: Padding | None,
) -> Artifact:
    """Code of a graph, and of those of the shorter lengths; `padding` is for those between."""
    if not lengths:
        return target.emit(graph, name)
    return lengthwise(target).emit_lengths({lengths.largest: graph, **others}, name, padding)


@contextmanager
def _named(lengths: Lengths, size: int) -> Iterator[None]:
    try:
        yield
    except CompileError as error:
        raise CompileError(
            f"{lengths.dimension} = {size} beside {lengths.largest}: {error}"
        ) from error
