"""Inputs and outputs that look like states, by their names and types.

Names are compared without the words that say before or after: `h_in` and `h_out`, `h0` and `hn`,
`past_key_values.3.key` and `present.3.key` (optimum's exporter), `state_2` and `new_state_2`,
`hidden` and `hidden_out`, `initial_h` and `Y_h`. What is left must be the same and not empty, and
one of both names must speak of time, or what is left of a memory: `image_in` and `image_out` are no
state.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from qcomp.ir.graph import Graph
from qcomp.ir.states import state_from
from qcomp.ir.tensor import DType, TensorType

_TIME = {
    "before": ["past", "prev", "previous", "old", "last", "initial", "init"],
    "after": ["present", "new", "next", "updated", "current", "cur", "final"],
}
_ENDS = {"before": ["in", "input", "0", "from"], "after": ["out", "output", "n", "to", "y", "o"]}
_MEMORIES = {
    *("h", "c", "hx", "cx", "hidden", "cell", "state", "states", "memory", "mem", "context", "ctx"),
    *("cache", "caches", "key", "keys", "value", "values", "k", "v", "kv", "buffer"),
    *("rnn", "lstm", "gru"),
}
_WORD = re.compile(r"[a-z]+|[0-9]+")
_PAST_KEY_VALUES = ("past", "key", "values")


def state_pairs(graph: Graph) -> dict[str, str]:
    """The outputs that are likely to be what inputs have in the next run, by input.

    None is found for a name that has two candidates.
    """
    outputs = {name: _key(name, "after") for name in graph.outputs}
    inputs = {name: _key(name, "before") for name in graph.inputs}
    found: dict[str, str] = {}
    for name, (key, spoken) in inputs.items():
        fitting = [
            output
            for output, (other, told) in outputs.items()
            if other == key
            and key
            and (spoken or told or not set(key).isdisjoint(_MEMORIES))
            and _fit(graph.type(graph.inputs[name]), graph.type(graph.outputs[output]))
        ]
        if len(fitting) == 1:
            found[name] = fitting[0]
    times = Counter(found.values())
    return {name: output for name, output in found.items() if times[output] == 1}


def option(pairs: Iterable[tuple[str, str]]) -> str:
    """How the command line takes them."""
    return " ".join(f"--state {name}:{output}" for name, output in pairs)


def _key(name: str, side: str) -> tuple[tuple[str, ...], bool]:
    """The words that are left of a name, and whether others spoke of time."""
    words = _WORD.findall(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    if tuple(words[:3]) == _PAST_KEY_VALUES:
        words = ["past", *words[3:]]
    if len(words) == 1 and re.fullmatch("[hc][nx]", words[0]):
        words = [words[0][0]]  # torch's own: h0, c0 and hn, cn
    left = [w for w in words if w not in _TIME[side]]
    spoken = len(left) < len(words)
    ends = [w for w in _ENDS[side] if w != "0" or (len(left) == 2 and left[-1] == "0")]
    return tuple(w for w in left if w not in ends), spoken


def _fit(kept: TensorType, given: TensorType) -> bool:
    """Whether they are a state's, or those of rows that grow."""
    if kept.dtype is not DType.F32 or kept.rank < 1 or kept.rank != given.rank:
        return False
    try:
        state_from("", "", kept, given)
    except ValueError:
        pairs = [(a, b) for a, b in zip(kept.shape, given.shape, strict=True) if a != b]
        return len(pairs) == 1 and pairs[0][1] > pairs[0][0]
    return True
