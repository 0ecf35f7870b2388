"""All ops, and the table from mnemonic to type that the text parser reads.

Each module lists its public names in its own `__all__`; an op is in OPS by being a subclass of Op.
"""

# ruff: noqa: F403

from __future__ import annotations

from collections.abc import Iterator

from qcomp.ir.ops import (
    attention,
    base,
    choice,
    dynamic,
    elementwise,
    embedding,
    integer,
    integer_elementwise,
    integer_linear,
    integer_recurrent,
    integer_resize,
    linear,
    movement,
    normalization,
    octaves,
    pair_table,
    pooling,
    power,
    quantization,
    recurrent,
    reduction,
)
from qcomp.ir.ops.attention import *
from qcomp.ir.ops.base import *
from qcomp.ir.ops.choice import *
from qcomp.ir.ops.dynamic import *
from qcomp.ir.ops.elementwise import *
from qcomp.ir.ops.embedding import *
from qcomp.ir.ops.integer import *
from qcomp.ir.ops.integer_elementwise import *
from qcomp.ir.ops.integer_linear import *
from qcomp.ir.ops.integer_recurrent import *
from qcomp.ir.ops.integer_resize import *
from qcomp.ir.ops.linear import *
from qcomp.ir.ops.movement import *
from qcomp.ir.ops.normalization import *
from qcomp.ir.ops.octaves import *
from qcomp.ir.ops.pair_table import *
from qcomp.ir.ops.pooling import *
from qcomp.ir.ops.power import *
from qcomp.ir.ops.quantization import *
from qcomp.ir.ops.recurrent import *
from qcomp.ir.ops.reduction import *


def _concrete(cls: type[base.Op]) -> Iterator[type[base.Op]]:
    if "mnemonic" in cls.__dict__:
        yield cls
    for sub in cls.__subclasses__():
        yield from _concrete(sub)


OPS: dict[str, type[base.Op]] = {cls.mnemonic: cls for cls in _concrete(base.Op)}

__all__ = ["OPS"]
__all__ += attention.__all__
__all__ += base.__all__
__all__ += choice.__all__
__all__ += dynamic.__all__
__all__ += elementwise.__all__
__all__ += embedding.__all__
__all__ += integer.__all__
__all__ += integer_elementwise.__all__
__all__ += integer_linear.__all__
__all__ += integer_recurrent.__all__
__all__ += integer_resize.__all__
__all__ += linear.__all__
__all__ += movement.__all__
__all__ += octaves.__all__
__all__ += pair_table.__all__
__all__ += normalization.__all__
__all__ += pooling.__all__
__all__ += power.__all__
__all__ += quantization.__all__
__all__ += recurrent.__all__
__all__ += reduction.__all__
