"""What the code of a recurrent layer depends on, and how its weights and its scratch memory lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.ops import QGru, QLstm, QRecurrent
from qcomp.ir.tensor import Array
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.memory import SLACK

_REGISTERS = 4  # of which one has sums: of the others, some hold weights that are widened


@dataclass(frozen=True)
class Part:
    """Neighbouring channels of the product that are computed at once, from `first` on."""

    first: int
    count: int


@dataclass(frozen=True)
class RecurrentSpec:
    """`op` has no names; `sizes` are bytes of x, of an initial hidden and cell state, of a length
    and of a result; `bias` is what hidden states of 8 bits are stored with (Storage).
    """

    op: QRecurrent
    steps: int
    batch: int
    hidden: int
    lanes: int
    most_vectors: int  # of channels whose sums are formed at once
    group: int  # neighbouring k of a step of the product
    bias: int
    initial_bytes: int
    cell_bytes: int
    length_bytes: int
    has_peepholes: bool

    @property
    def channels(self) -> int:
        return self.op.float_op.gates * self.hidden

    @property
    def parts(self) -> tuple[Part, ...]:
        """All channels, or a GRU's gates first, of which its candidate's hidden state is made."""
        if isinstance(self.op, QGru) and not self.op.linear_before_reset:
            return Part(0, 2 * self.hidden), Part(2 * self.hidden, self.hidden)
        return (Part(0, self.channels),)

    def vectors(self, part: Part) -> int:
        """Of channels, in a block; blocks are alike."""
        whole = -(-part.count // self.lanes)
        return -(-whole // -(-whole // self.most_vectors))

    def blocks(self, part: Part) -> int:
        return -(-part.count // (self.vectors(part) * self.lanes))

    def padded(self, part: Part) -> int:
        """Channels with those that fill the last block."""
        return self.blocks(part) * self.vectors(part) * self.lanes

    @property
    def groups(self) -> int:
        return -(-self.hidden // self.group)

    @property
    def element(self) -> int:
        """Bytes of a hidden state, as weights are multiplied by it."""
        return self.op.hidden.bits // 8

    # Scratch of a sample: sums, states, cell states, the hidden state, and that of a candidate.

    @property
    def state_at(self) -> int:
        return 4 * (max(p.first + self.padded(p) for p in self.parts))

    @property
    def cell_at(self) -> int:
        return self.state_at + 4 * self.hidden

    @property
    def hidden_at(self) -> int:
        cells = 4 * self.hidden if isinstance(self.op, QLstm) else 0
        return self.cell_at + cells

    @property
    def candidate_at(self) -> int:
        return self.hidden_at + self._hidden_bytes

    @property
    def scratch(self) -> int:
        """Bytes of a sample, whole lines."""
        bytes_ = self.candidate_at + (len(self.parts) - 1) * self._hidden_bytes
        return -(-bytes_ // 64) * 64

    @property
    def _hidden_bytes(self) -> int:
        return -(-(self.groups * self.group * self.element + SLACK) // 64) * 64

    # Constants

    def packed(self, weight: Array) -> Array:
        """[part][block][group of k][channel][k], filled up with zeros."""
        parts = []
        for part in self.parts:
            rows = np.zeros((self.padded(part), self.groups * self.group), np.int8)
            rows[: part.count, : self.hidden] = weight[part.first :][: part.count]
            block = self.vectors(part) * self.lanes
            cut = rows.reshape(-1, block, self.groups, self.group)
            parts.append(cut.transpose(0, 2, 1, 3).reshape(-1))
        return np.concatenate(parts)

    def folded(self, bias: Array, weight: Array) -> NDArray[np.int32]:
        """With what the zero point and the storage of the hidden state add."""
        zero = self.op.hidden.zero_point + self.bias
        sums = weight.astype(np.int64).sum(axis=1)
        return np.asarray(bias - zero * sums, np.int32)

    def by_block(self, table: Array) -> Array:
        """A number for each channel, as blocks have them."""
        parts = []
        for part in self.parts:
            filled = np.zeros(self.padded(part), table.dtype)
            filled[: part.count] = table[part.first :][: part.count]
            parts.append(filled)
        return np.concatenate(parts)

    def part_offset(self, part: Part) -> int:
        """The place of the first channel of a part in the constants."""
        return sum(self.padded(p) for p in self.parts if p.first < part.first)


def recurrent_spec(
    op: QRecurrent,
    isa: Isa,
    shape: tuple[int, ...],
    bytes_: tuple[int, int, int],
    *,
    peepholes: bool,
) -> RecurrentSpec:
    """Of sums [T, N, G * H]; the bytes are those of initial states and of a length."""
    steps, batch, channels = shape
    narrow = op.hidden.bits == 8
    return RecurrentSpec(
        op,
        steps,
        batch,
        channels // op.float_op.gates,
        isa.lanes,
        max(1, isa.registers // _REGISTERS),
        4 if narrow else 2,
        isa.machine.storage.value if narrow else 0,
        *bytes_,
        peepholes,
    )
