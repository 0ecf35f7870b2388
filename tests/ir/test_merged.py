"""Tables that several modules write together."""

from __future__ import annotations

import pytest

from qcomp.ir.merged import merged
from qcomp.ir.ops import Add, Mul, Sub


def test_every_row_of_every_table_is_there() -> None:
    assert merged({Add: 1}, {}, {Sub: 2, Mul: 3}) == {Add: 1, Sub: 2, Mul: 3}


def test_a_row_that_two_modules_have_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"two tables have a row of Add, Sub; expected one"):
        merged({Add: 1, Sub: 2}, {Mul: 3}, {Sub: 2, Add: 1})
