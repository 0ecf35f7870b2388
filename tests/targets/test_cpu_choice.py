"""Generated comparisons and choices equal their meaning, for operands of both widths."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from qcomp.ir.ops import QCompare, QSelect, Relation

SIZES = [1, 7, 16, 17, 65, 257]
# Bits of the operands and of the result.
COMPARED = [(8, 8), (8, 16), (16, 8), (16, 16)]
SELECTED = [(8, 8), (8, 16), (16, 8), (16, 16)]


def values(kit: Any, bits: int, *shape: int, seed: int = 0) -> Any:
    """Few different ones, so that some are equal."""
    few = np.random.default_rng(seed).choice([-3, 0, 5, 127, -128], shape)
    return few.astype(np.int8 if bits == 8 else np.int16)


def comparison(relation: Relation, bits: int) -> partial[QCompare]:
    return partial(QCompare, relation=relation, zero=-100 if bits == 8 else 0, one=101, bits=bits)


@pytest.mark.parametrize("relation", Relation)
@pytest.mark.parametrize("kind", COMPARED, ids=str)
def test_comparisons(kit: Any, kind: tuple[int, int], relation: Relation) -> None:
    """A constant may be wider than what it is compared with."""
    a, b = values(kit, kind[0], 2, 3, 19), values(kit, kind[0], 3, 1, seed=1)
    kit.check(comparison(relation, kind[1]), a, b)
    kit.check(comparison(relation, kind[1]), a, kit.fixed(values(kit, 16, 19, seed=2)))


@pytest.mark.parametrize("kind", SELECTED, ids=str)
def test_choices(kit: Any, kind: tuple[int, int]) -> None:
    condition = values(kit, kind[0], 2, 3, 19)
    a, b = values(kit, kind[1], 2, 1, 19, seed=1), values(kit, kind[1], 3, 1, seed=2)
    select = partial(QSelect, condition_zero_point=0 if kind[0] == 16 else -3)
    kit.check(select, condition, a, b)
    kit.check(select, kit.fixed(condition), a, kit.fixed(b))


@pytest.mark.parametrize("size", SIZES)
def test_sizes_around_vectors(kit: Any, size: int) -> None:
    a, b = values(kit, 8, size), values(kit, 8, size, seed=1)
    kit.check(comparison(Relation.LESS, 8), a, b)
    kit.check(partial(QSelect, condition_zero_point=5), values(kit, 8, size, seed=2), a, b)


def test_images_with_borders(kit: Any) -> None:
    a, b = values(kit, 8, 1, 4, 5, 19), values(kit, 8, 1, 4, 5, 19, seed=1)
    kit.check(comparison(Relation.LESS_OR_EQUAL, 8), a, b, borders=True)
    kit.check(partial(QSelect, condition_zero_point=0), a, b, values(kit, 8, 19), borders=True)
