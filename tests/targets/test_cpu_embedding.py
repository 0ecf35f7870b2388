"""Generated look-ups of rows equal their meaning, for every index and for both widths."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from qcomp.ir.ops import QEmbedding


@pytest.mark.parametrize(("index", "element"), [(8, 8), (8, 16), (16, 8), (16, 16)])
def test_every_index_finds_a_row(kit: Any, index: int, element: int) -> None:
    """Those beyond the table the first or the last one."""
    x = np.arange(-128, 128).astype(f"int{index}").reshape(2, 128)
    table = (kit.i8 if element == 8 else kit.i16)(50, 19)
    kit.check(partial(QEmbedding, first=-100), x, kit.fixed(table))


@pytest.mark.parametrize("first", [-128, -10, 0, 7])
@pytest.mark.parametrize("index", [8, 16])
def test_places_below_the_first_row_count_from_the_end(kit: Any, index: int, first: int) -> None:
    x = np.arange(max(first - 50, -128), first + 50).astype(f"int{index}")
    kit.check(partial(QEmbedding, first=first, wraps=True), x, kit.fixed(kit.i8(50, 19)))


@pytest.mark.parametrize("row", [1, 2, 15, 16, 33, 64, 130, 300])
def test_rows_of_any_length(kit: Any, row: int) -> None:
    x = np.int8([[3, 0, 9, -5, 9]])
    kit.check(partial(QEmbedding, first=0), x, kit.fixed(kit.i8(10, row)))


def test_tables_of_any_rank(kit: Any) -> None:
    x = np.int8([3, 0, 9])
    kit.check(partial(QEmbedding, first=0), x, kit.fixed(kit.i8(10)))
    kit.check(partial(QEmbedding, first=0), x, kit.fixed(kit.i8(10, 2, 3)))


def test_rows_of_an_image_that_has_a_border(kit: Any) -> None:
    x = np.random.default_rng(0).integers(0, 9, (1, 4, 5)).astype(np.int8)
    kit.check(partial(QEmbedding, first=0), x, kit.fixed(kit.i8(9, 19)), borders=True)
