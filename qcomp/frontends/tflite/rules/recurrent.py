"""LSTM over a sequence: a dense layer over all steps, and the recurrence.

The states that a file keeps from one run to the next are 0 at the beginning of each run here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qcomp.frontends.tflite.context import ACTIVATIONS, Node, Rule
from qcomp.ir.ops import Activation, Dense, Function, Lstm, Transpose
from qcomp.ir.tensor import Array

# Operands by gate, in the order i, o, f, c of the graph's op; the file has i, f, c, o.
_GATES = (0, 3, 1, 2)
_INPUT, _HIDDEN, _PEEPHOLE, _BIAS = 1, 5, 9, 12
_PROJECTION, _NORMALIZATION = 16, 20

_FUNCTIONS: Mapping[str, Activation] = {
    "TANH": Activation(Function.TANH),
    "RELU": Activation(Function.LEAKY_RELU, 0.0),
}


def lstm(node: Node) -> None:
    """Without an input gate of its own, it is 1 - f: then f's weights, negated, are i's."""
    coupled = not node.has(_INPUT)
    _expect_plain(node)
    number = int(node.option("fused_activation_function", 0))
    name = ACTIVATIONS[number][0] if 0 <= number < len(ACTIVATIONS) else str(number)
    node.require(name in _FUNCTIONS, f"the activation {name}", ", ".join(_FUNCTIONS))
    function = _FUNCTIONS[name]
    of_x, of_h, bias = (_stacked(node, at, coupled) for at in (_INPUT, _HIDDEN, _BIAS))
    hidden = of_h.shape[1]
    x = node.x()
    time_first = bool(node.option("time_major"))
    node.require(len(node.shape()) == 3, f"an operand of rank {len(node.shape())}", "rank 3")
    if not time_first:
        x = node.add(Transpose(inputs=(x,), output=node.part("x"), permutation=(1, 0, 2)))
    batch = node.graph.type(x).shape[1]

    def constant(role: str, data: Array) -> str:
        return node.graph.add_constant(node.part(role), np.ascontiguousarray(data, np.float32))

    dense = Dense(
        inputs=(x, constant("weight", of_x), constant("bias", bias)), output=node.part("sums")
    )
    states = [constant("zeros", np.zeros((batch, hidden))) for _ in range(2)]
    layer = Lstm(
        inputs=(
            node.add(dense),
            constant("recurrent", of_h),
            constant("own", np.zeros(4 * hidden)),
            *states,
            constant("peepholes", _peepholes(node, hidden, coupled)),
        ),
        output=node.out() if time_first else node.part("states"),
        activations=(Activation(Function.SIGMOID), function, function),
        coupled=coupled,
    )
    node.context.notes.append(f"{node.op}: its states are 0 at the beginning of each run")
    if time_first:
        node.finish(layer)
    else:
        y = node.add(layer)
        node.finish(Transpose(inputs=(y,), output=node.out(), permutation=(1, 0, 2)))


def _expect_plain(node: Node) -> None:
    """Refuse what the graph's op does not have."""
    node.require(not node.quantized, "an LSTM of integers", "one of floats")
    projected = node.has(_PROJECTION) or node.has(_PROJECTION + 1)
    node.require(not projected, "a projection of the hidden state", "none")
    normalized = any(node.has(_NORMALIZATION + i) for i in range(4))
    node.require(not normalized, "normalization by layer in the gates", "none")
    for name in ("cell_clip", "proj_clip"):
        clip = float(node.option(name))
        node.require(clip == 0.0, f"{name}={clip}", "0, which is none")


def _stacked(node: Node, first: int, coupled: bool) -> Array:
    """The rows of all gates, of weights or biases."""
    rows = []
    for n, gate in enumerate(_GATES):
        if coupled and gate == 0:
            rows.append(-node.floats(first + 1, "the weights"))
        else:
            rows.append(node.floats(first + gate, "the weights"))
        fits = rows[n].shape == rows[0].shape and rows[n].ndim >= 1
        node.require(fits, f"weights {rows[n].shape} beside {rows[0].shape}", "one shape")
    return np.concatenate(rows)


def _peepholes(node: Node, hidden: int, coupled: bool) -> Array:
    """Of i, o and f, which the file has as c to i, f and o."""
    places = {"i": _PEEPHOLE, "f": _PEEPHOLE + 1, "o": _PEEPHOLE + 2}
    if not node.has(places["f"]):
        return np.zeros(3 * hidden, np.float32)
    f, o = (node.floats(places[gate], "a peephole") for gate in "fo")
    i = -f if coupled else node.floats(places["i"], "a peephole")
    return np.concatenate([i, o, f])


RULES: Mapping[str, Rule] = {"UNIDIRECTIONAL_SEQUENCE_LSTM": lstm}
