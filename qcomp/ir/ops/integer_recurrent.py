"""Recurrent layers in integers; their steps are in qcomp.ir.evaluate.integer_recurrent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import Operand, expect, expect_activation
from qcomp.ir.ops.integer import IntegerOp, expect_dtype, result_dtype
from qcomp.ir.ops.recurrent import Gru, Lstm, Recurrent, Rnn, states
from qcomp.ir.tensor import DType, TensorId, TensorType
from qcomp.quant.fixed_point import Requantize
from qcomp.quant.recurrence import ENTRIES, Factor

__all__ = ["QGru", "QLstm", "QRecurrent", "QRnn"]


@dataclass(frozen=True, kw_only=True)
class QRecurrent(IntegerOp):
    """Base of the layers; operands, rows and fields are those of `Recurrent` where they are named
    alike.

    x i16 are sums of `sum_bits - x_shift` fraction bits. The products of weight i8 and the hidden
    state, with bias i32, become sums of `sum_bits` by MID18 (qcomp.quant.recurrence), with
    multiplier and shift i32 [G * H] and `left`. Sums saturate to i16, and to [-clip, clip].
    curves i32 [functions, 1025] are the activations, whose values have `fractions` fraction bits.

    A hidden state has `state_bits` fraction bits between the steps. It becomes what weights are
    multiplied by through `hidden_factor` and `hidden`, what is returned through `result_factor` and
    `result`; an initial one, i8 or i16, comes in through `initial_factor`.
    """

    arity: ClassVar[int | None] = None
    constant_operands: ClassVar[tuple[int, ...]] = (1, 2, 3, 4, 5)
    float_op: ClassVar[type[Recurrent]]
    x = Operand(0)
    weight = Operand(1)
    bias = Operand(2)
    multiplier = Operand(3)
    shift = Operand(4)
    curves = Operand(5)
    initial_h = Operand(6)

    reverse: bool
    tail: bool
    has_lengths: bool
    x_shift: int
    sum_bits: int
    left: int
    clip: int
    fractions: tuple[int, ...]
    state_bits: int
    initial_zero_point: int
    initial_factor: Factor
    hidden_factor: Factor
    hidden: Requantize
    result_factor: Factor
    result: Requantize

    @property
    def lengths(self) -> TensorId | None:
        return self.inputs[-1] if self.has_lengths else None

    @property
    def tail_rows(self) -> int:
        return 1 if self.tail else 0

    @property
    def operands(self) -> int:
        """How many there are."""
        return 7 + self.has_lengths

    def result_type(self, *inputs: TensorType) -> TensorType:
        wanted = self.operands
        expect(len(inputs) == wanted, f"{len(inputs)} operands; expected {wanted}")
        x, weight, bias, multiplier, shift, curves, initial = inputs[:7]
        lengths = inputs[wanted - self.has_lengths :]
        expect_dtype(x, DType.I16)
        expect_dtype(weight, DType.I8)
        expect_activation(initial, *lengths)
        for t in (bias, multiplier, shift):
            expect_dtype(t, DType.I32)
            expect(t.shape == bias.shape, f"{t} beside the bias {bias}")
        expected = TensorType(DType.I32, (self.float_op.functions, ENTRIES))
        expect(curves == expected, f"expected curves {expected}, got {curves}")
        functions = len(self.fractions)
        expect(functions == self.float_op.functions, f"fraction bits of {functions} functions")
        found = states(self.float_op.gates, self.tail_rows, x, weight, bias, initial, *lengths)
        result_dtype(self.hidden.bits, self.hidden.zero_point)
        return found.with_dtype(result_dtype(self.result.bits, self.result.zero_point))


@dataclass(frozen=True, kw_only=True)
class QRnn(QRecurrent):
    """One activation, whose value is the state."""

    mnemonic: ClassVar[str] = "q_rnn"
    float_op: ClassVar[type[Recurrent]] = Rnn


@dataclass(frozen=True, kw_only=True)
class QGru(QRecurrent):
    """The state is kept in i32."""

    mnemonic: ClassVar[str] = "q_gru"
    float_op: ClassVar[type[Recurrent]] = Gru

    linear_before_reset: bool


@dataclass(frozen=True, kw_only=True)
class QLstm(QRecurrent):
    """The cell state is kept in i32 with 20 fraction bits; an initial one comes in through
    `cell_initial_factor`, the last one goes out through `cell_factor` and `result`.

    peephole_multiplier and peephole_shift are i32 [3 * H].
    """

    mnemonic: ClassVar[str] = "q_lstm"
    float_op: ClassVar[type[Recurrent]] = Lstm
    constant_operands: ClassVar[tuple[int, ...]] = (1, 2, 3, 4, 5, 8, 9)
    initial_c = Operand(7)
    peephole_multiplier = Operand(8)
    peephole_shift = Operand(9)

    coupled: bool
    cell_initial_zero_point: int
    cell_initial_factor: Factor
    cell_factor: Factor

    @property
    def tail_rows(self) -> int:
        return 2 if self.tail else 0

    @property
    def operands(self) -> int:
        return super().operands + 3

    def result_type(self, *inputs: TensorType) -> TensorType:
        result = super().result_type(*inputs)
        hidden, (cell, *peepholes) = result.shape[-1], inputs[7:10]
        expect_activation(cell)
        expect(cell.shape == inputs[6].shape, f"cell state {cell} beside the hidden {inputs[6]}")
        expected = TensorType(DType.I32, (3 * hidden,))
        for t in peepholes:
            expect(t == expected, f"expected peepholes {expected}, got {t}")
        return result
