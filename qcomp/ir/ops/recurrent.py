"""Recurrent layers, one direction of one layer each: LSTM, GRU and RNN as ONNX defines them.

What the inputs add to the gates of all steps is a dense layer in front, `x`; the op adds what the
hidden state adds, step by step. All operands have time first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import AxisUse, Op, Operand, expect, expect_float
from qcomp.ir.ops.elementwise import UP_TO_ONE, Function
from qcomp.ir.tensor import TensorId, TensorType

__all__ = ["Activation", "Gru", "Lstm", "Recurrent", "Rnn"]

LEAST_EXPONENT = 4
"""Sums that a sigmoid or tanh reads have a range of 2^4 at least: beyond it they are 0 or 1."""


@dataclass(frozen=True)
class Activation:
    """A function of a gate, with its parameters as `Unary` has them."""

    function: Function
    alpha: float = 1.0
    beta: float = 0.0

    @property
    def is_bounded(self) -> bool:
        """Whether its values never pass 1 in magnitude."""
        return self.function in UP_TO_ONE


@dataclass(frozen=True, kw_only=True)
class Recurrent(Op):
    """Base of the layers.

    x [T, N, G * H] are the sums of the G gates as far as the inputs make them, weight [G * H, H]
    and bias [G * H] are those of the hidden state, initial_h [N, H]. The result is the hidden state
    behind each step, [T, N, H]; with `tail` rows with the last hidden state, and of an LSTM the
    last cell state, come behind it.

    reverse: from the last step to the first one.
    activations: of the gates, in ONNX's order.
    clip: sums are clipped to [-clip, clip] before an activation; inf: they are not.
    has_lengths: the last operand, [N], is how many steps each sample has, between 0 and T. In
        later ones its state stays as it is, and the result is 0.
    hidden_bits: of the hidden state where it is multiplied by weights, if the result has 16.
    """

    axis_use: ClassVar[AxisUse | None] = AxisUse.ALL
    arity: ClassVar[int | None] = None
    constant_operands: ClassVar[tuple[int, ...]] = (1, 2)
    gates: ClassVar[int]
    functions: ClassVar[int]
    x = Operand(0)
    weight = Operand(1)
    bias = Operand(2)
    initial_h = Operand(3)

    reverse: bool = False
    activations: tuple[Activation, ...]
    clip: float = float("inf")
    tail: bool = False
    has_lengths: bool = False
    hidden_bits: int = 16

    @property
    def lengths(self) -> TensorId | None:
        return self.inputs[-1] if self.has_lengths else None

    @property
    def of_16_bits(self) -> tuple[TensorId, ...]:
        """Sums of gates; and states that come in or go out with a cell state."""
        return (self.x, *((self.output,) if self.tail else ()))

    @property
    def tail_rows(self) -> int:
        return 1 if self.tail else 0

    @property
    def is_bounded(self) -> bool:
        return all(f.is_bounded for f in self.activations)

    @property
    def least_exponent(self) -> int | None:
        """Of two, which the sums' range is not below; None where no bounded function reads them."""
        return LEAST_EXPONENT if any(f.is_bounded for f in self.activations) else None

    @property
    def operands(self) -> int:
        """How many there are."""
        return 4 + self.has_lengths

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_float(*inputs)
        wanted = self.operands
        expect(len(inputs) == wanted, f"{len(inputs)} operands; expected {wanted}")
        given = len(self.activations)
        expect(given == self.functions, f"{given} activations; expected {self.functions}")
        return states(
            self.gates, self.tail_rows, *inputs[:4], *inputs[wanted - 1 :][: self.has_lengths]
        )


def states(
    gates: int,
    tail_rows: int,
    x: TensorType,
    weight: TensorType,
    bias: TensorType,
    initial: TensorType,
    *lengths: TensorType,
) -> TensorType:
    """The type of all states, in elements of x."""
    expect(x.rank == 3, f"expected sums [T, N, {gates} * H], got {x}")
    steps, batch, channels = x.shape
    hidden = channels // gates
    expect(
        hidden >= 1 and weight.shape == (gates * hidden, hidden) and channels == gates * hidden,
        f"weight {weight} for sums {x} of {gates} gates",
    )
    expect(bias.shape == (channels,), f"bias {bias} for {channels} sums")
    expect(
        initial.shape == (batch, hidden), f"initial state {initial}; expected {batch} of {hidden}"
    )
    for t in lengths:
        expect(t.shape == (batch,), f"lengths {t} for {batch} samples")
    return x.with_shape((steps + tail_rows, batch, hidden))


@dataclass(frozen=True, kw_only=True)
class Rnn(Recurrent):
    """h = f(x + R h + b)."""

    mnemonic: ClassVar[str] = "rnn"
    gates: ClassVar[int] = 1
    functions: ClassVar[int] = 1


@dataclass(frozen=True, kw_only=True)
class Gru(Recurrent):
    """Gates z, r, h and activations f, g:

        z = f(x_z + R_z h + b_z);  r = f(x_r + R_r h + b_r)
        n = g(x_h + r * (R_h h + b_h))   linear_before_reset
        n = g(x_h + R_h (r * h) + b_h)   else
        h = (1 - z) * n + z * h

    Nothing but h goes from step to step; so where it is `carried`, from one run of the network to
    the next, it comes in and goes out with 16 bits.
    """

    mnemonic: ClassVar[str] = "gru"
    gates: ClassVar[int] = 3
    functions: ClassVar[int] = 2

    linear_before_reset: bool = False
    carried: bool = False

    @property
    def of_16_bits(self) -> tuple[TensorId, ...]:
        states = (self.initial_h, self.output) if self.carried else ()
        return (*super().of_16_bits, *states)


@dataclass(frozen=True, kw_only=True)
class Lstm(Recurrent):
    """Gates i, o, f, c and activations f, g, h:

        i = f(x_i + R_i h + b_i + p_i c);  f = f(x_f + R_f h + b_f + p_f c)   coupled: f = 1 - i
        c = f * c + i * g(x_c + R_c h + b_c)
        o = f(x_o + R_o h + b_o + p_o c);  h = o * h(c)

    initial_c is [N, H]; peepholes, [3 * H], are those of i, o and f.
    """

    mnemonic: ClassVar[str] = "lstm"
    gates: ClassVar[int] = 4
    functions: ClassVar[int] = 3
    constant_operands: ClassVar[tuple[int, ...]] = (1, 2, 5)
    initial_c = Operand(4)
    peepholes = Operand(5)

    coupled: bool = False

    @property
    def of_16_bits(self) -> tuple[TensorId, ...]:
        return (self.initial_c, *super().of_16_bits)

    @property
    def tail_rows(self) -> int:
        return 2 if self.tail else 0

    @property
    def operands(self) -> int:
        return super().operands + 2

    def result_type(self, *inputs: TensorType) -> TensorType:
        result = super().result_type(*inputs)
        hidden, (cell, peepholes) = result.shape[-1], inputs[4:6]
        expect(cell.shape == inputs[3].shape, f"cell state {cell} beside the hidden {inputs[3]}")
        expect(peepholes.shape == (3 * hidden,), f"peepholes {peepholes} for {hidden} cells")
        return result
