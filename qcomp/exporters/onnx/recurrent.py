"""ONNX forms of the recurrent layers.

ONNX has the weights of the inputs in the same operator. Here they are a layer in front, whose
results may be quantized; so the operator gets these results, and an identity for weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx

from qcomp.exporters.onnx.writer import Attribute, Layout, Writer
from qcomp.ir.ops import Activation, Function, Gru, Lstm, Op, Recurrent, Rnn
from qcomp.ir.tensor import TensorId

NAMES: Mapping[Function, str] = {
    Function.AFFINE: "Affine",
    Function.ELU: "Elu",
    Function.HARD_SIGMOID: "HardSigmoid",
    Function.LEAKY_RELU: "LeakyRelu",
    Function.SIGMOID: "Sigmoid",
    Function.SOFTPLUS: "Softplus",
    Function.SOFTSIGN: "Softsign",
    Function.TANH: "Tanh",
}
RELU = Activation(Function.LEAKY_RELU, 0.0)
# A list of alphas has one for each function of the node that takes one.
_WITH_BETA = (Function.AFFINE, Function.HARD_SIGMOID)
_WITH_ALPHA = (*_WITH_BETA, Function.ELU, Function.LEAKY_RELU)


def activation_name(activation: Activation) -> str:
    return "Relu" if activation == RELU else NAMES[activation.function]


def _takes(activation: Activation, functions: tuple[Function, ...]) -> bool:
    return activation != RELU and activation.function in functions


def rnn(w: Writer, op: Rnn) -> None:
    _recurrent(w, op, "RNN", [_one(w, op.initial_h)])


def gru(w: Writer, op: Gru) -> None:
    linear = int(op.linear_before_reset)
    _recurrent(w, op, "GRU", [_one(w, op.initial_h)], linear_before_reset=linear)


def lstm(w: Writer, op: Lstm) -> None:
    states = [_one(w, op.initial_h), _one(w, op.initial_c)]
    peepholes = w.graph.data(op.peepholes)
    if peepholes.any():
        states.append(w.literal(peepholes[np.newaxis]))
    _recurrent(w, op, "LSTM", states, input_forget=int(op.coupled))


def _one(w: Writer, state: TensorId) -> str:
    """[N, H] as of one direction."""
    return w.emit("Unsqueeze", [w.read(state, Layout.OURS), w.integers([0])])


def _recurrent(
    w: Writer, op: Recurrent, kind: str, states: Sequence[str], **attributes: Attribute
) -> None:
    channels = w.graph.type(op.x).shape[-1]
    bias = w.graph.data(op.bias)
    zeros = np.zeros_like(bias)
    inputs = [
        w.read(op.x, Layout.OURS),
        w.literal(np.eye(channels, dtype=np.float32)[np.newaxis]),
        w.emit("Unsqueeze", [w.parameter(op.weight), w.integers([0])]),
        w.literal(np.concatenate([zeros, bias])[np.newaxis]),
        _lengths(w, op),
        *states,
    ]
    attributes |= {
        "hidden_size": channels // op.gates,
        "direction": "reverse" if op.reverse else "forward",
        "activations": [activation_name(f) for f in op.activations],
        "activation_alpha": [f.alpha for f in op.activations if _takes(f, _WITH_ALPHA)],
        "activation_beta": [f.beta for f in op.activations if _takes(f, _WITH_BETA)],
    }
    given = {name: value for name, value in attributes.items() if value != []}
    if op.clip < float("inf"):
        given["clip"] = op.clip
    results = w.emit_several(kind, inputs, 1 + op.tail_rows, given)
    y = w.emit("Squeeze", [results[0], w.integers([1])])
    if op.tail:
        y = w.emit("Concat", [y, *results[1:]], axis=0)
    w.define(op.id, Layout.OURS, y)


def _lengths(w: Writer, op: Recurrent) -> str:
    if op.lengths is None:
        return ""
    whole = w.emit("Round", [w.read(op.lengths, Layout.OURS)])
    steps = float(w.graph.type(op.x).shape[0])
    within = w.emit("Clip", [whole, w.scalar(0.0), w.scalar(steps)])
    return w.emit("Cast", [within], to=onnx.TensorProto.INT32)


RULES: Mapping[type[Op], Callable[..., None]] = {
    Rnn: rnn,
    Gru: gru,
    Lstm: lstm,
}
