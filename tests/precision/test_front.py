"""Fronts of an additive model, against all choices there are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.precision.front import Choice, Option, greedy, pareto

COSTS = st.integers(0, 40)
PARTS = st.lists(st.lists(st.tuples(COSTS, COSTS), min_size=1, max_size=3), min_size=1, max_size=6)


def options(parts: list[list[tuple[int, int]]]) -> list[list[Option]]:
    return [[Option(i, float(n), float(c)) for i, (n, c) in enumerate(part)] for part in parts]


def unbeaten(parts: list[list[tuple[int, int]]]) -> list[tuple[int, int]]:
    """(cost, noise) of all choices that no other beats."""
    sums = {
        (sum(c for _, c in choice), sum(n for n, _ in choice))
        for choice in itertools.product(*parts)
    }
    return sorted(
        (c, n) for c, n in sums if not any(o != (c, n) and o[0] <= c and o[1] <= n for o in sums)
    )


def check_sums(parts: list[list[tuple[int, int]]], choices: list[Choice]) -> None:
    for choice in choices:
        chosen = [part[i] for part, i in zip(parts, choice.picked, strict=True)]
        assert choice.noise == sum(n for n, _ in chosen)
        assert choice.cost == sum(c for _, c in chosen)


@given(PARTS)
def test_the_front_is_what_no_choice_beats(parts: list[list[tuple[int, int]]]) -> None:
    front = pareto(options(parts))
    check_sums(parts, front)
    assert [(c.cost, c.noise) for c in front] == unbeaten(parts)


@given(PARTS)
def test_greedy_goes_from_the_least_noise_to_the_least_cost(
    parts: list[list[tuple[int, int]]],
) -> None:
    path = greedy(options(parts))
    check_sums(parts, path)
    costs = [c.cost for c in path]
    assert costs == sorted(costs)
    front = unbeaten(parts)
    assert (path[-1].cost, path[-1].noise) == front[-1]
    assert path[0].cost == front[0][0]


@given(PARTS)
def test_greedy_steps_with_two_options_are_on_the_front_s_hull(
    parts: list[list[tuple[int, int]]],
) -> None:
    pairs = [part[:2] for part in parts]
    front = unbeaten(pairs)
    slopes = [0.0, 0.1, 0.5, 1.0, 2.0, 10.0]
    path = greedy(options(pairs))
    for slope in slopes:  # the least of noise + slope * cost is on the hull
        least = min(n + slope * c for c, n in front)
        assert min(c.noise + slope * c.cost for c in path) == pytest.approx(least)


def test_a_front_of_many_choices_is_thinned_and_keeps_its_ends() -> None:
    random = np.random.default_rng(0)
    parts = [
        [Option(8, 0.0, float(cost)), Option(4, float(noise), 0.0)]
        for noise, cost in random.uniform(1, 2, (40, 2))
    ]
    front = pareto(parts)
    assert 100 < len(front) <= 4097
    assert front[0].picked == (1,) * 40
    assert front[-1].picked == (0,) * 40
    noises = [c.noise for c in front]
    assert noises == sorted(noises, reverse=True)
    for step in greedy(parts):  # on the hull of the exact front
        best = min(c.noise for c in front if c.cost <= step.cost + 0.02)
        assert best <= step.noise * 1.001 + 1e-9
