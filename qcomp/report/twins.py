"""A float graph in which each op stands four times, so that what it errs by itself has causes.

    y      as the float network has it
    y_w    the op with its rounded weights, on the float network's values
    y_b    and with its bias, rounded and corrected
    y_x    the same on those values rounded

All of them read what the float network gives, so no error reaches another op.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from qcomp.execute.session import FloatSession
from qcomp.ir.ops import Dequantize, Op, QuantizedConstant, Weighted
from qcomp.ir.region import with_outputs
from qcomp.ir.tensor import Array, TensorId
from qcomp.precision.mixture import Copier
from qcomp.report.pairs import Pairs, behind


@dataclass(frozen=True)
class Twins:
    """Ids of y, y_w, y_b and y_x by the integer op; they are one where nothing differs."""

    floats: Mapping[TensorId, TensorId]
    weights: Mapping[TensorId, TensorId]
    biases: Mapping[TensorId, TensorId]
    operands: Mapping[TensorId, TensorId]


class TwinSession:
    """The float graph with its twins, ready to run.

    ops: integer ops whose operands and results all stand for floats. Others give y alone.
    """

    def __init__(self, pairs: Pairs, ops: Iterable[Op]) -> None:
        self._pairs = pairs
        self._graph = pairs.reference.clone()
        self._copier = Copier(pairs.reference, pairs.qdq, self._graph)
        self._made: dict[tuple[type[Op], tuple[TensorId, ...], TensorId], TensorId] = {}
        made_of = {op.id: self._twins(op) for op in ops}
        weights, biases, operands = ({id: t[i] for id, t in made_of.items()} for i in range(3))
        self.twins = Twins(pairs.floats, weights, biases, operands)
        outputs = pairs.reference.outputs.values()
        wanted = dict.fromkeys(
            (*pairs.floats.values(), *outputs, *(t for twins in made_of.values() for t in twins))
        )
        self._given = [t for t in wanted if self._graph.producer(t) is None]
        made = [t for t in wanted if self._graph.producer(t) is not None]
        self._session = FloatSession(with_outputs(self._graph, made))

    def run(self, sample: Mapping[str, Array]) -> dict[TensorId, Array]:
        """Every float tensor and twin by its id; the sample goes by names of inputs."""
        feed = {id: sample[name] for name, id in self._graph.inputs.items()}
        constants = {t: self._graph.data(t) for t in self._given if self._graph.is_constant(t)}
        return {**feed, **constants, **self._session.run(feed)}

    def _twins(self, op: Op) -> tuple[TensorId, TensorId, TensorId]:
        """y_w, y_b and y_x of an integer op."""
        real, made = self._pairs.floats[op.output], self._pairs.float_op(op)
        if made is None:  # a change of scale
            return real, real, self._copier.copy(self._rounded(op))
        values = tuple(self._value(t) for t in made.inputs)
        rounded = tuple(self._copier.copy(t) for t in made.inputs)
        twins = [self._twin(made, operands, real) for operands in (values, rounded)]
        return self._with_own_bias(made, values, real), twins[0], twins[1]

    def _with_own_bias(self, made: Op, values: tuple[TensorId, ...], real: TensorId) -> TensorId:
        """The twin with the bias of the float network, where the op has one."""
        own = self._pairs.reference.producer(real)
        if isinstance(made, Weighted) and isinstance(own, Weighted):
            values = tuple(
                own.bias if t == made.bias else v for t, v in zip(made.inputs, values, strict=True)
            )
        return self._twin(made, values, real)

    def _rounded(self, op: Op) -> TensorId:
        """The dequantize that a change of scale is lowered from."""
        quantize = self._pairs.qdq.op(op.output)
        return quantize.inputs[0]

    def _value(self, id: TensorId) -> TensorId:
        """An operand of the QDQ graph without the rounding of activations."""
        qdq = self._pairs.qdq
        made = qdq.producer(id)
        if isinstance(made, Dequantize) and (real := behind(qdq, made.x)) is not None:
            return real
        if qdq.is_constant(id) or isinstance(made, QuantizedConstant):
            return self._copier.copy(id)
        return id

    def _twin(self, op: Op, inputs: tuple[TensorId, ...], real: TensorId) -> TensorId:
        own = self._graph.producer(real)
        if own is not None and replace(op, output=real, inputs=inputs) == own:
            return real
        key = type(op), inputs, real
        if key not in self._made:
            twin = replace(op, inputs=inputs, output=self._graph.fresh_id(f"{real}.twin"))
            self._made[key] = self._graph.add_op(twin)
        return self._made[key]
