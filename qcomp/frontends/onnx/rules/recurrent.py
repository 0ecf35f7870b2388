"""LSTM, GRU and RNN: for each direction a dense layer over all steps, and the recurrence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcomp.frontends.onnx.context import Node, Rule
from qcomp.frontends.onnx.rules.embedding import give_integers
from qcomp.ir.ops import (
    Activation,
    Concat,
    Dense,
    Function,
    Gru,
    Lstm,
    Recurrent,
    Reshape,
    Rnn,
    Slice,
    Transpose,
)
from qcomp.ir.tensor import Array, TensorId
from qcomp.quant.qparams import QParams, integer_range

W, R, B, LENGTHS, INITIAL_H, INITIAL_C, PEEPHOLES = 1, 2, 3, 4, 5, 6, 7
Y, Y_H, Y_C = 0, 1, 2
_BYTE = QParams(1.0, 0)
_WORD = QParams(1.0, 0, *integer_range(16))

# Function, and the default of alpha and beta where there are such. As in onnxruntime, a list of
# alphas has one for each function of the list that takes one.
_ACTIVATIONS: Mapping[str, tuple[Function, float | None, float | None]] = {
    "Affine": (Function.AFFINE, 1.0, 0.0),
    "Elu": (Function.ELU, 1.0, None),
    "HardSigmoid": (Function.HARD_SIGMOID, 0.2, 0.5),
    "LeakyRelu": (Function.LEAKY_RELU, 0.01, None),
    "Sigmoid": (Function.SIGMOID, None, None),
    "Softplus": (Function.SOFTPLUS, None, None),
    "Softsign": (Function.SOFTSIGN, None, None),
    "Tanh": (Function.TANH, None, None),
}
_RELU = Activation(Function.LEAKY_RELU, 0.0)


@dataclass(frozen=True)
class _Kind:
    """An operator: its op, and the activations that it has where none are named."""

    op: type[Recurrent]
    activations: tuple[str, ...]
    fields: Callable[[Node], dict[str, Any]]


def _activations(node: Node, kind: _Kind, directions: int) -> list[Activation]:
    names = node.texts("activations", kind.activations * directions)
    expected = len(kind.activations) * directions
    node.require(len(names) == expected, f"{len(names)} activations", str(expected))
    alphas, betas = (
        iter(node.numbers(name) if name in node.attributes else ())
        for name in ("activation_alpha", "activation_beta")
    )
    return [_activation(node, name, alphas, betas) for name in names]


def _activation(node: Node, name: str, alphas: Any, betas: Any) -> Activation:
    if name.lower() == "relu":
        return _RELU
    known = {key.lower(): row for key, row in _ACTIVATIONS.items()}
    accepted = ", ".join([*_ACTIVATIONS, "Relu"])
    node.require(name.lower() in known, f"activation {name}", accepted)
    function, alpha, beta = known[name.lower()]
    found = Activation(
        function,
        1.0 if alpha is None else next(alphas, alpha),
        0.0 if beta is None else next(betas, beta),
    )
    node.require(math.isfinite(found.alpha) and math.isfinite(found.beta), f"parameters of {name}")
    return found


@dataclass(frozen=True, eq=False)
class _Layer:
    """A node: shapes, and what its directions share."""

    node: Node
    kind: _Kind
    x: TensorId
    steps: int
    batch: int
    hidden: int
    directions: tuple[bool, ...]  # whether each goes backwards
    batch_first: bool
    lengths: TensorId | None

    def part(self, direction: int, role: str) -> TensorId:
        return self.node.part(f"{role}{direction}" if len(self.directions) > 1 else role)

    def weights(self, index: int, direction: int) -> Array:
        return np.ascontiguousarray(self.node.floats(index, "the weights")[direction])

    def biases(self, direction: int) -> tuple[Array, Array]:
        """Of the dense layer, and of the hidden state: only what a GRU resets stays there."""
        gates = self.kind.op.gates
        rows = gates * self.hidden
        if not self.node.has(B):
            return np.zeros(rows, np.float32), np.zeros(rows, np.float32)
        of_x, of_h = np.split(self.weights(B, direction), 2)
        kept = np.zeros(rows, bool)
        if self.kind.fields(self.node).get("linear_before_reset"):
            kept[2 * self.hidden :] = True
        return np.where(kept, of_x, of_x + of_h), np.where(kept, of_h, np.float32(0))

    def state(self, index: int, direction: int) -> TensorId:
        """[N, H] of an initial state."""
        node, shape = self.node, (self.batch, self.hidden)
        if not node.has(index):
            return node.new_constant("zeros", np.zeros(shape, np.float32))
        count = len(self.directions)
        expected = (self.batch, count, self.hidden) if self.batch_first else (count, *shape)
        found = node.shape(index)
        node.require(found == expected, f"an initial state {found}", str(expected))
        axis = 1 if self.batch_first else 0
        if node.is_constant(index):
            data = node.floats(index, "an initial state").take(direction, axis)
            return node.weight(index, np.ascontiguousarray(data), f"direction {direction}")
        taken = node.x(index)
        if count > 1:
            taken = cut(node, taken, axis, direction, 1, self.part(direction, "initial"))
        return node.add(Reshape(inputs=(taken,), output=node.part("initial"), shape=shape))

    def run(self, direction: int, activations: tuple[Activation, ...], *, tail: bool) -> TensorId:
        node, op = self.node, self.kind.op
        of_x, of_h = self.biases(direction)
        w, r = self.weights(W, direction), self.weights(R, direction)
        bias, own = (
            node.new_constant(role, data) for role, data in (("bias", of_x), ("own", of_h))
        )
        dense = Dense(
            inputs=(self.x, node.weight(W, w, f"direction {direction}"), bias),
            output=self.part(direction, "sums"),
        )
        inputs = [
            node.add(dense),
            node.weight(R, r, f"direction {direction}"),
            own,
            self.state(INITIAL_H, direction),
        ]
        if op is Lstm:
            p = np.zeros(3 * self.hidden, np.float32)
            if node.has(PEEPHOLES):
                p = self.weights(PEEPHOLES, direction)
            inputs += [self.state(INITIAL_C, direction), node.new_constant("peepholes", p)]
        if self.lengths is not None:
            inputs.append(self.lengths)
        clip = node.number("clip", math.inf)
        node.require(clip > 0, f"clip={clip}", "a positive number")
        return node.add(
            op(
                inputs=tuple(inputs),
                output=self.part(direction, "states"),
                reverse=self.directions[direction],
                activations=activations,
                clip=clip,
                tail=tail,
                has_lengths=self.lengths is not None,
                **self.kind.fields(node),
            )
        )

    def last(self, direction: int, states: TensorId, *, tail: bool) -> TensorId:
        """The last hidden state, [1, N, H]."""
        row = 0 if self.directions[direction] else self.steps - 1
        return cut(
            self.node, states, 0, self.steps if tail else row, 1, self.part(direction, "last")
        )

    def give(self, output: int, parts: list[TensorId], axis: int) -> None:
        """One result of the node: the parts of its directions side by side along a new axis.

        Parts are [T, N, H], or [1, N, H] of states.
        """
        node = self.node
        batch, first = self.batch, self.batch_first
        grown = []
        for part in parts:
            rows = node.graph.type(part).shape[0]
            if first:
                if 1 not in (rows, batch):
                    turned = Transpose(
                        inputs=(part,), output=node.part("turned"), permutation=(1, 0, 2)
                    )
                    part = node.add(turned)
                shape = (batch, rows, 1, self.hidden) if output == Y else (batch, 1, self.hidden)
            else:
                shape = (rows, 1, batch, self.hidden) if output == Y else (1, batch, self.hidden)
            is_result = len(parts) == 1
            id = node.out(output) if is_result else node.part("direction")
            grown.append(node.add(Reshape(inputs=(part,), output=id, shape=shape)))
        if len(grown) > 1:
            node.add(Concat(inputs=tuple(grown), output=node.out(output), axis=axis))


def cut(node: Node, x: TensorId, axis: int, start: int, size: int, output: TensorId) -> TensorId:
    """`size` elements of an axis; all of them is the tensor itself."""
    shape = node.graph.type(x).shape
    if size == shape[axis]:
        return x
    starts, sizes = [0] * len(shape), list(shape)
    starts[axis], sizes[axis] = start, size
    steps = (1,) * len(shape)
    return node.add(
        Slice(inputs=(x,), output=output, starts=tuple(starts), sizes=tuple(sizes), steps=steps)
    )


_DIRECTIONS: Mapping[str, tuple[bool, ...]] = {
    "forward": (False,),
    "reverse": (True,),
    "bidirectional": (False, True),
}


def _recurrent(kind: _Kind) -> Rule:
    def rule(node: Node) -> None:
        layer = _layer(node, kind)
        count = len(layer.directions)
        activations = _activations(node, kind, count)
        each = len(activations) // count
        wants = [not node.unused(index) for index in range(3)]
        tail = wants[Y_C] or (wants[Y_H] and layer.lengths is not None)
        runs = [
            layer.run(d, tuple(activations[d * each : (d + 1) * each]), tail=tail)
            for d in range(count)
        ]
        if wants[Y]:
            rows = [cut(node, r, 0, 0, layer.steps, node.part("rows")) for r in runs]
            layer.give(Y, rows, 2 if layer.batch_first else 1)
        states_axis = 1 if layer.batch_first else 0
        if wants[Y_H]:
            parts = [layer.last(d, run, tail=tail) for d, run in enumerate(runs)]
            layer.give(Y_H, parts, states_axis)
        if wants[Y_C]:
            parts = [cut(node, r, 0, layer.steps + 1, 1, node.part("cell")) for r in runs]
            layer.give(Y_C, parts, states_axis)

    return rule


def _layer(node: Node, kind: _Kind) -> _Layer:
    direction = node.text("direction", "forward")
    node.require(direction in _DIRECTIONS, f"direction {direction!r}", ", ".join(_DIRECTIONS))
    directions = _DIRECTIONS[direction]
    shape = node.shape()
    node.require(len(shape) == 3, f"an input of rank {len(shape)}", "rank 3")
    node.require(not node.is_constant(0), "a constant input", "a computed one")
    order = node.integer("layout", 0)
    node.require(order in (0, 1), f"layout={order}", "0 or 1")
    batch_first = order == 1
    batch, steps = (shape[0], shape[1]) if batch_first else (shape[1], shape[0])
    weights = [node.floats(index, "the weights").shape for index in (W, R)]
    node.require([len(w) for w in weights] == [3, 3], f"weights {weights}", "of rank 3")
    hidden = weights[1][-1]
    rows = kind.op.gates * hidden
    expected = [(len(directions), rows, shape[2]), (len(directions), rows, hidden)]
    node.require(weights == expected, f"weights {weights}", str(expected))
    node.require(
        node.integer("hidden_size", hidden) == hidden,
        f"hidden_size={node.integer('hidden_size', hidden)} for weights of {hidden}",
    )
    for index, size in ((B, 2 * rows), (PEEPHOLES, 3 * hidden)):
        if node.has(index):
            found, wanted = node.floats(index, "an operand").shape, (len(directions), size)
            node.require(found == wanted, f"operand {index} {found}", str(wanted))
    x = node.x()
    if batch_first:
        x = node.add(Transpose(inputs=(x,), output=node.part("x"), permutation=(1, 0, 2)))
    lengths = _lengths(node, steps, batch)
    return _Layer(node, kind, x, steps, batch, hidden, directions, batch_first, lengths)


def _lengths(node: Node, steps: int, batch: int) -> TensorId | None:
    """Of the samples; None where all have every step."""
    if not node.has(LENGTHS):
        return None
    found = node.shape(LENGTHS)
    node.require(found == (batch,), f"sequence_lens {found}", str((batch,)))
    if node.is_constant(LENGTHS):
        data = node.constant(LENGTHS, "sequence_lens")
        node.require(
            bool(((data >= 0) & (data <= steps)).all()),
            f"sequence_lens {data.tolist()}",
            f"0 to {steps}",
        )
        return None if (data == steps).all() else node.x(LENGTHS)
    ids = node.x(LENGTHS)
    ids = node.context.whole_of.get(ids, ids)
    give_integers(node, ids, _BYTE if steps <= _BYTE.qmax else _WORD)
    return ids


def _no_fields(node: Node) -> dict[str, Any]:
    return {}


def _gru_fields(node: Node) -> dict[str, Any]:
    """A state that comes from outside is taken to be what an earlier run gave."""
    return {
        "linear_before_reset": node.integer("linear_before_reset", 0) != 0,
        "carried": node.has(INITIAL_H) and not node.is_constant(INITIAL_H),
    }


def _lstm_fields(node: Node) -> dict[str, Any]:
    return {"coupled": node.integer("input_forget", 0) != 0}


RULES: Mapping[str, Rule] = {
    "RNN": _recurrent(_Kind(Rnn, ("Tanh",), _no_fields)),
    "GRU": _recurrent(_Kind(Gru, ("Sigmoid", "Tanh"), _gru_fields)),
    "LSTM": _recurrent(_Kind(Lstm, ("Sigmoid", "Tanh", "Tanh"), _lstm_fields)),
}
