"""What the functions of ops and the schedules need to know of a machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Machine:
    """A kind of TVM's targets; `options` are more of that target's fields.

    align: of buffers, in bytes.
    threads: the most in a group; 0: loops, no threads.
    vector: the most bytes of i8 that one thread loads or stores at once.
    dot4: whether a function multiplies and adds four i8 at once.
    """

    kind: str
    align: int
    threads: int
    vector: int
    dot4: bool
    options: Mapping[str, str | int] = field(default_factory=dict)


DOT4 = "qcomp_dot4"  # int (int, int): the sum of the products of four i8 each

# A tensor with its border, of which a thread has the pixels of a tap in registers: one question
# whether a pixel is inside, for all channels of a tile.
PIXELS = "pixels"

LLVM = Machine("llvm", align=64, threads=0, vector=1, dot4=False)
C = Machine("c", align=64, threads=0, vector=1, dot4=False)
OPENCL = Machine("opencl", align=512, threads=128, vector=4, dot4=False)
OPENCL_DOT4 = replace(OPENCL, dot4=True)
CUDA = Machine("cuda", align=512, threads=128, vector=4, dot4=True, options={"arch": "sm_80"})
