"""What the functions of ops and the schedules need to know of a machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Tiles:
    """The part of a result that one thread computes, and how many threads work together.

    channels: neighbours that it loads and stores at once, at most; a power of two.
    pixels: neighbours whose sums it holds in registers, at most.
    threads: the most in a group.
    enough: threads, below which tiles get smaller.
    few: threads of a group, below which a divisor is not worth it.
    """

    channels: int
    pixels: int
    threads: int
    enough: int
    few: int


@dataclass(frozen=True)
class Machine:
    """A kind of TVM's targets; `options` are more of that target's fields.

    align: of buffers, in bytes.
    tiles: of threads; None: loops, no threads.
    dot4: how many products of four i8, with their sum, a function computes at once; 0: none does.
    vectors: whether one thread computes with vectors; else it only loads and stores them.
    tuned: tiles of single kernels, by `program.Kernel.key`; None: nothing was measured.
    """

    kind: str
    align: int
    tiles: Tiles | None
    dot4: int
    vectors: bool
    options: Mapping[str, str | int] = field(default_factory=dict)
    tuned: Mapping[str, Tiles] | None = None

    def tiles_of(self, key: str) -> Tiles | None:
        """Of the kernel that goes by the key: those that were measured to be best, or the usual."""
        return (self.tuned or {}).get(key, self.tiles)


DOT4 = "qcomp_dot4"  # int (int, int): the sum of the products of four i8 each

# A tensor with its border, of which a thread has the pixels of a tap in registers: one question
# whether a pixel is inside, for all channels of a tile.
PIXELS = "pixels"

# A device with thousands of threads in flight, and a processor that has a few, each with vectors.
MANY = Tiles(channels=4, pixels=4, threads=128, enough=4096, few=32)
WIDE = Tiles(channels=16, pixels=8, threads=8, enough=64, few=1)

LLVM = Machine("llvm", align=64, tiles=None, dot4=0, vectors=False)
C = Machine("c", align=64, tiles=None, dot4=0, vectors=False)
OPENCL = Machine("opencl", align=512, tiles=MANY, dot4=0, vectors=False)
OPENCL_DOT4 = replace(OPENCL, dot4=1)
OPENCL_CPU = replace(OPENCL, tiles=WIDE, dot4=16, vectors=True)
CUDA = Machine("cuda", align=512, tiles=MANY, dot4=1, vectors=False, options={"arch": "sm_80"})
