"""Sizes and constants of an attention, and how a block of queries lies in scratch memory."""

from __future__ import annotations

from dataclasses import dataclass

from qcomp.ir.ops.attention import Mask, Unattended
from qcomp.quant.attention import MASK_LIMIT

GROUP = 4  # bytes that one dot product takes of each operand
MOST_DEPTH = 256  # of two i16, for which sums of low bytes fit i32
MOST_QUERIES = 16  # of a block, whose scores are in memory at a time
_LINE = 64  # bytes


@dataclass(frozen=True)
class MaskSpec:
    """How one mask is read: bytes from one batch, head, query and key to the next, 0 where it is
    the same for all.
    """

    kind: Mask
    width: int  # of its elements
    strides: tuple[int, int, int, int]
    zero_point: int


@dataclass(frozen=True)
class AttentionSpec:
    """Sizes, bytes from one batch, position and head to the next, and the fields of QAttention.

    widths: bits of an element of q, k, v and the result.
    """

    batch: int
    queries: int
    keys: int
    heads: int
    groups: int
    depth: int
    elements: int
    q: tuple[int, int, int]
    k: tuple[int, int, int]
    v: tuple[int, int, int]
    y: tuple[int, int, int]
    widths: tuple[int, int, int, int]
    q_zero_point: int
    v_zero_point: int
    product_shift: int
    score_shift: int
    multiplier: int
    probability_bits: int
    down: int
    numerator: int
    shift: int
    zero_point: int
    ahead: int
    masks: tuple[MaskSpec, ...]
    added_multiplier: int
    added_shift: int
    added_least: int
    unattended: Unattended

    @property
    def wide(self) -> bool:
        """Whether products may leave i32."""
        return 16 in self.widths[:2]

    @property
    def sum_bits(self) -> int:
        """Of weighted values."""
        return 64 if self.widths[2] == 16 else 32

    @property
    def fits_blocks(self) -> bool:
        """Whether sums of products have 32 bits, in planes."""
        return not self.wide or self.depth <= MOST_DEPTH

    @property
    def is_causal(self) -> bool:
        return self.ahead < self.keys - 1

    @property
    def skips(self) -> bool:
        """Whether blocks of queries leave out the keys behind all of theirs.

        Each query sees a key then, and what none of a block sees has no weight by itself.
        """
        return self.is_causal and self.ahead >= 0 and not self.masks and self.saturates

    @property
    def excludes(self) -> bool:
        """Whether some key may be excluded."""
        return bool(self.masks) or self.is_causal

    @property
    def saturates(self) -> bool:
        """Whether what is excluded is so far below any score that its weight is 0 by itself.

        Scores are within three times the limit, the excluded one is four times below zero.
        """
        return MASK_LIMIT >> max(self.score_shift, 0) >= 2**15 - 1

    @property
    def row_bytes(self) -> int:
        """Scratch of one query at a time: a row of scores, and one of weights in i16."""
        return self.keys * 6


@dataclass(frozen=True)
class BlockLayout:
    """Scratch of a head of k: its keys and values as products read them, and a block of rows.

    lanes: i32 of a vector. Keys and elements are padded to whole vectors, and what is summed over
    to fours of i8 or to pairs of i16. keys: [depth / 4][keys][4] in i8, or [depth / 2][keys][2] in
    i16; values: [keys / 4][elements][4] where weights have 8 bits, else [keys / 2][elements][2].
    Values of i8 are widened as they are read. An i16 that meets another is two planes, one behind
    the other: its high byte with its sign, and its low byte; so sums have 32 bits.
    """

    spec: AttentionSpec
    lanes: int

    @property
    def queries(self) -> int:
        return min(MOST_QUERIES, self.spec.queries)

    @property
    def group(self) -> int:
        """Elements of q and k that are multiplied at a time."""
        return 2 if self.spec.wide else GROUP

    @property
    def key_planes(self) -> int:
        return 2 if self.spec.widths[:2] == (16, 16) else 1

    @property
    def value_planes(self) -> int:
        return 2 if self.spec.widths[2] == 16 else 1

    @property
    def depth(self) -> int:
        return -(-self.spec.depth // self.group) * self.group

    @property
    def key_plane(self) -> int:
        """Bytes."""
        return 4 * (self.depth // self.group) * self.keys

    @property
    def value_bytes(self) -> int:
        """Of an element, as it is packed."""
        return self.value_planes

    @property
    def value_plane(self) -> int:
        """Bytes."""
        return self.value_bytes * self.keys * self.elements

    @property
    def keys(self) -> int:
        """Two vectors of scores become one of weights."""
        return -(-self.spec.keys // (2 * self.lanes)) * 2 * self.lanes

    @property
    def pairs(self) -> int:
        """Of vectors of scores."""
        return self.keys // (2 * self.lanes)

    @property
    def elements(self) -> int:
        return -(-self.spec.elements // self.lanes) * self.lanes

    @property
    def weight_bytes(self) -> int:
        return 1 if self.spec.probability_bits == 8 else 2

    @property
    def q_row(self) -> int:
        """Bytes of a query; a load of four groups stays within it."""
        return _aligned(4 * (self.depth // self.group), 16)

    @property
    def parts(self) -> dict[str, int]:
        """Offsets by name, and the size of all as "end"."""
        sizes = {
            "keys": self.key_planes * self.key_plane,
            "key sums": 4 * self.keys,
            "values": self.value_planes * self.value_plane,
            "value sums": 4 * self.elements,
            "ones": self.keys if self.spec.skips else 0,
            "queries": self.queries * self.q_row,
            "scores": 4 * self.queries * self.keys,
            "weights": self.weight_bytes * self.queries * self.keys,
            "totals": 4 * self.queries,
        }
        offsets, end = {}, 0
        for name, size in sizes.items():
            offsets[name] = end
            end += _aligned(size, _LINE)
        return offsets | {"end": end + _LINE}


def _aligned(size: int, align: int) -> int:
    return -(-size // align) * align
