"""Generated logarithms of powers equal their meaning."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from qcomp.ir.ops import QLogPower
from qcomp.quant.tables import log_table_16


@pytest.mark.parametrize("down", [0, 17])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("source", [np.int8, np.int16])
def test_the_logarithm_of_a_power(kit: Any, source: Any, bits: int, down: int) -> None:
    limits, random = np.iinfo(source), np.random.default_rng(0)
    a, b = random.integers(limits.min, limits.max + 1, (2, 3, 37), source)
    a[0, :5], b[0, :5] = [0, 1, limits.min, limits.max, 0], [0, 0, limits.min, limits.max, 1]
    per_nat = 2**16 / 0.3
    op = partial(
        QLogPower, x_zero_point=0, down=down, added=3, least=7, offset=-round(15 * per_nat),
        zero_point=0, bits=bits,
    )  # fmt: skip
    kit.check(op, a, b, kit.fixed(log_table_16(per_nat, 0)))
