"""Errors along sequences of a network with states: whether they grow with the steps.

The float network goes on from its own states and the integer network from its own, so that what
one step loses is in all that follow.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qcomp.accuracy.record import StepsAccuracy, finite
from qcomp.execute.session import FloatSession
from qcomp.ir.graph import Graph
from qcomp.ir.states import State, states_of
from qcomp.quant.noise import Noise

Feed = Mapping[str, NDArray[Any]]

MOST_STEPS = 1024
_PARTS = 4


class Stepping(Protocol):
    """The integer network, which keeps its states."""

    def reset(self) -> None: ...
    def __call__(self, x: Mapping[str, Any]) -> Mapping[str, Any]: ...


def measured_steps(
    imported: Graph,
    outputs: Collection[str],
    stream: Stepping,
    samples: Iterable[Feed],
    most: int = MOST_STEPS,
) -> tuple[StepsAccuracy, ...]:
    """Of up to four equal parts of the longest sequence, over all sequences; nothing where samples
    are none.

    outputs: those that stand for real numbers. samples: with the states that the float network has.
    A sequence begins where all states are 0, and ends where they are not what the last step left.
    """
    session, states = FloatSession(imported), states_of(imported)
    compared = [name for name in outputs if name not in imported.states.values()]
    noises: list[Noise] = []
    for step, sample in _steps(states, samples, session, most):
        if step == 0:
            stream.reset()
        expected, feed = sample
        answers = stream({n: a for n, a in feed.items() if n not in imported.states})
        noises += [Noise()] * (step + 1 - len(noises))
        for name in compared:
            noises[step] = noises[step].plus([expected[name]], [answers[name]])
    count = min(_PARTS, len(noises) // 2)
    ends = [len(noises) * i // max(count, 1) for i in range(count + 1)]
    return tuple(
        StepsAccuracy(first + 1, end, finite(sum(noises[first:end], Noise()).db))
        for first, end in itertools.pairwise(ends)
    )


def _steps(
    states: tuple[State, ...], samples: Iterable[Feed], session: FloatSession, most: int
) -> Iterator[tuple[int, tuple[Feed, Feed]]]:
    """Numbered within their sequences: what the float network answers, and what it was given."""
    step, kept = 0, dict[str, NDArray[Any]]()
    for _, feed in zip(range(most), samples, strict=False):
        if not any(feed[s.input].any() for s in states):
            step, kept = 0, {s.input: feed[s.input].copy() for s in states}
        elif not all(s.input in kept and _is(kept[s.input], feed[s.input]) for s in states):
            kept = {}
            continue
        found = session.run(feed)
        yield step, (found, feed)
        kept = {s.input: s.after(kept[s.input], found[s.output], step) for s in states}
        step += 1


def _is(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether they are the same state, by two runs of floats."""
    return bool(np.allclose(one, other, rtol=1e-3, atol=1e-3 * float(np.abs(one).max())))
