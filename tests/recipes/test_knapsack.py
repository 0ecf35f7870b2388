"""What fits a budget is chosen by the value of the whole, not of each thing over its cost."""

from __future__ import annotations

import itertools

import numpy as np

from qcomp.recipes.knapsack import most_valuable


def test_one_large_thing_is_worth_more_than_the_cheap_ones_that_leave_no_room_for_it() -> None:
    values, costs = [62.0, 3.0, 3.0, 2.0], [8.0, 0.3, 0.6, 0.6]
    assert most_valuable(values, costs, 8.95) == [0, 1, 2]
    assert most_valuable(values, costs, 8.5) == [0, 1]
    assert most_valuable(values, costs, 7.0) == [1, 2, 3]
    assert most_valuable(values, costs, 0.0) == []


def test_costs_may_be_all_of_the_budget() -> None:
    assert most_valuable([1.0], [2.0], 2.0) == [0]
    assert most_valuable([1.0, 3.0, 1.0], [1.0, 1.0, 1.0], 2.0) == [0, 1]
    assert most_valuable([1.0], [2.01], 2.0) == []


def test_no_choice_is_better_than_by_the_rounding_of_costs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        values, costs = rng.uniform(0.1, 1.0, 8), rng.uniform(0.1, 1.0, 8)
        found = most_valuable(list(values), list(costs), 2.0)
        assert costs[found].sum() <= 2.0
        every = (list(s) for n in range(9) for s in itertools.combinations(range(8), n))
        best = max(values[s].sum() for s in every if costs[s].sum() <= 2.0 * (1 - 8 / 400))
        assert values[found].sum() >= best
