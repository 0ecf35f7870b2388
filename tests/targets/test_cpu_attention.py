"""Generated attention equals its meaning in every bit."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from attention_cases import Sizes, attention_case

from qcomp.ir.ops.attention import Mask, Unattended
from qcomp.targets.cpu.emit.attention_scores import KEPT_VECTORS
from qcomp.targets.cpu.generic.machine import portable
from qcomp.targets.cpu.x86.machine import LAYOUT, XMM

CONDITION, ADDED, SCORES = Mask.ALLOWED, Mask.ADDED, Mask.SCORES
SIZES = [
    Sizes(),
    Sizes(heads=6, groups=3, queries=17, keys=33, depth=13, elements=19),
    Sizes(batch=2, heads=1, queries=1, keys=1, depth=1, elements=1),
    Sizes(heads=4, groups=4, queries=16, keys=64, depth=32, elements=32),
    Sizes(batch=2, heads=2, groups=2, queries=3, keys=70, depth=64, elements=33),
    Sizes(heads=1, queries=2, keys=300, depth=20, elements=24),
    Sizes(heads=2, queries=40, keys=96, depth=40, elements=16),
]
MASKS = [
    (),
    (CONDITION,),
    (Mask.EXCLUDED, CONDITION),
    (ADDED,),
    (SCORES,),
    (CONDITION, ADDED, SCORES),
]


def check(kit: Any, seed: int, sizes: Sizes, **choices: Any) -> None:
    case = attention_case(seed, sizes, **choices)
    kit.check(case.make, *case.graph_operands(kit.fixed))


@pytest.mark.parametrize(("n", "sizes"), list(enumerate(SIZES)))
@pytest.mark.parametrize("masks", MASKS, ids=str)
def test_masks(kit: Any, n: int, sizes: Sizes, masks: tuple[Mask, ...]) -> None:
    unattended = list(Unattended)[(n + len(masks)) % 2]
    check(kit, n, sizes, masks=masks, unattended=unattended)


@pytest.mark.parametrize("over", [-17, -1, 0, 1])
@pytest.mark.parametrize("masks", [(), (CONDITION,), (CONDITION, ADDED, SCORES)], ids=str)
def test_rows_of_registers_and_longer_ones(
    kit: Any, isa: Any, masks: tuple[Mask, ...], over: int
) -> None:
    """Of so many keys more than registers keep, in queries of few and many blocks."""
    sizes = Sizes(heads=2, queries=19, keys=KEPT_VECTORS * isa.lanes + over, depth=8, elements=8)
    for n, widths in enumerate(((8, 8, 8, 8), (16, 16, 16, 16))):
        unattended = list(Unattended)[n]
        case = attention_case(over + 17, sizes, masks=masks, widths=widths, unattended=unattended)
        kit.check(case.make, *case.graph_operands(kit.fixed), isas=[isa])


@pytest.mark.parametrize(("n", "sizes"), list(enumerate(SIZES)))
@pytest.mark.parametrize("ahead", [0, 3, -2])
def test_queries_that_see_keys_before_them(kit: Any, n: int, sizes: Sizes, ahead: int) -> None:
    masks = MASKS[(n + ahead) % len(MASKS)]
    check(kit, n, sizes, masks=masks, ahead=ahead, unattended=list(Unattended)[n % 2])


@pytest.mark.parametrize("sizes", [*SIZES[3:], Sizes(queries=50, keys=200, depth=16, elements=48)])
@pytest.mark.parametrize(("ahead", "step"), [(0, 0.01), (37, 1e-7), (37, 0.01)])
def test_keys_behind_all_queries_are_left_out(
    kit: Any, sizes: Sizes, ahead: int, step: float
) -> None:
    for widths in ((8, 8, 8, 8), (16, 16, 16, 16)):
        check(kit, 5, sizes, widths=widths, ahead=ahead, step=step)


@pytest.mark.parametrize(("n", "sizes"), list(enumerate(SIZES)))
def test_a_machine_that_stores_values_with_their_sign(kit: Any, n: int, sizes: Sizes) -> None:
    """As those of other families do, in code that runs here."""
    isa = kit.isas[0]
    machine = portable(XMM, LAYOUT, isa.machine.clock)
    for masks, ahead in (((CONDITION,), None), ((), 0), ((), None)):
        case = attention_case(n, sizes, masks=masks, ahead=ahead)
        operands = case.graph_operands(kit.fixed)
        kit.check(case.make, *operands, isas=[replace(isa, machine=machine)])


@pytest.mark.parametrize(("n", "widths"), list(enumerate(product((8, 16), repeat=4))))
def test_widths(kit: Any, n: int, widths: tuple[int, int, int, int]) -> None:
    for sizes, masks in zip(SIZES[:3], MASKS[3:], strict=True):
        check(kit, n, sizes, widths=widths, masks=masks, mask_width=widths[n % 4], step=1e-5)


@pytest.mark.parametrize("widths", [(16, 16, 8, 8), (16, 16, 16, 16)])
def test_deep_products(kit: Any, widths: tuple[int, int, int, int]) -> None:
    sizes = Sizes(heads=4, groups=2, queries=3, keys=9, depth=300, elements=21)
    check(kit, 0, sizes, widths=widths, masks=(CONDITION, ADDED, SCORES), step=1e-6, ahead=4)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("step", [1e-9, 1e-6, 1e-4, 1e-2, 1.0, 20.0])
@pytest.mark.parametrize("ratio", [1e-6, 0.3, 1.0, 30.0, 3000.0])
def test_constants(kit: Any, step: float, ratio: float, bits: int) -> None:
    check(kit, 1, SIZES[0], step=step, ratio=ratio, widths=(8, 8, 8, bits))
