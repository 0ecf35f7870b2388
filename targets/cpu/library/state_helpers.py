"""The functions of a header that keep states between runs, in memory of the caller.

A state that a run gives as a whole has two places, of which a run reads one and writes the other,
so that nothing is copied and no tensor of the run overlaps another; an int16_t behind them says
which is which. A cache that rows are added to has one place, and one for the rows of a run, which
are copied when it returned QCOMP_OK; two words say where the next ones go.
"""

from __future__ import annotations

from dataclasses import dataclass

from qcomp.ir.graph import Graph
from qcomp.ir.states import State, states_of
from qcomp.targets.cpu.library.float_helpers import C_TYPES, suffix_of

_WORD = 2  # bytes of the largest element, which every state begins at a multiple of

_ADD = """\
/* Copies `rows` rows of each of `outer` pieces into a cache of `capacity` rows, behind those of the
   last run and around its end; `next` has the place, its low 15 bits first. */
static inline void {name}_add_rows(int16_t *next, unsigned char *cache, const unsigned char *given,
                                   int32_t outer, int32_t capacity, int32_t rows, int32_t bytes) {{
  int32_t to = next[0] + next[1] * 32768;
  for (int32_t row = 0; row < rows; row++) {{
    for (int32_t piece = 0; piece < outer; piece++) {{
      for (int32_t i = 0; i < bytes; i++)
        cache[(piece * capacity + to) * bytes + i] = given[(piece * rows + row) * bytes + i];
    }}
    to = to + 1 == capacity ? 0 : to + 1;
  }}
  next[0] = (int16_t)(to % 32768);
  next[1] = (int16_t)(to / 32768);
}}
"""

_RESET = """\
/* `state`: {upper}_STATE_BYTES bytes of the caller's, aligned to int16_t. All states are 0. */
static inline void {name}_reset(void *state) {{
  int16_t *const words = (int16_t *)state;
{zeros}\
}}
"""

_STEP = """\
/* A run on the states that the last one left in `state`, which it leaves its own in; where it does
   not return QCOMP_OK, these are as they were. One step at a time of a state. */
static inline int {name}_step({parameters}, void *state, void *arena) {{
  int16_t *const words = (int16_t *)state;
{places}\
  const int status = {name}_run({arguments}, arena);
  if (status != QCOMP_OK) return status;
{kept}\
  return status;
}}
"""

_PLACES = """\
  int16_t *const from = words + (words[{which}] ? {half} : 0);
  int16_t *const to = words + (words[{which}] ? 0 : {half});
"""


@dataclass(frozen=True)
class _Layout:
    """Where what is kept lies, in words. `whole`: states with two places, the second of each
    `half` behind the first; `which`: the word that says which is read. `caches`: those with one
    place, with that of a run's rows and that of the two words.
    """

    whole: dict[str, int]
    half: int
    which: int
    caches: dict[str, tuple[int, int, int]]
    words: int


def state_helpers(graph: Graph, name: str) -> list[str]:
    """NAME_STATE_BYTES, NAME_reset and NAME_step; nothing without states."""
    if not graph.states:
        return []
    states = {state.input: state for state in states_of(graph)}
    at = _layout(graph, states)
    parameters, arguments = _arguments(graph, at)
    zeros = [_zeros(graph, public, place) for public, place in at.whole.items()]
    zeros += [f"  words[{at.which}] = 0;\n"] if at.whole else []
    for public, (place, _, next) in at.caches.items():
        zeros += [_zeros(graph, public, place), f"  words[{next}] = words[{next + 1}] = 0;\n"]
    kept = [f"  words[{at.which}] = (int16_t)!words[{at.which}];\n"] if at.whole else []
    kept += [_added(graph, name, states[public], *places) for public, places in at.caches.items()]
    fields = {"name": name, "upper": name.upper()}
    return [
        f"#define {name.upper()}_STATE_BYTES {_WORD * at.words}",
        *([_ADD.format(**fields)] if at.caches else []),
        _RESET.format(zeros="".join(zeros), **fields),
        _STEP.format(
            parameters=", ".join(parameters),
            places=_PLACES.format(which=at.which, half=at.half) if at.whole else "",
            arguments=", ".join(arguments),
            kept="".join(kept),
            **fields,
        ),
    ]


def _layout(graph: Graph, states: dict[str, State]) -> _Layout:
    whole: dict[str, int] = {}
    half = 0
    for public, state in states.items():
        if state.axis is None:
            whole[public] = half
            half += _words(graph, graph.inputs[public])
    end = 2 * half + bool(whole)
    caches = {}
    for public, state in states.items():
        if state.axis is not None:
            rows = end + _words(graph, graph.inputs[public])
            next = rows + _words(graph, graph.outputs[state.output])
            caches[public] = (end, rows, next)
            end = next + 2
    return _Layout(whole, half, 2 * half, caches, end)


def _words(graph: Graph, tensor: str) -> int:
    return -(-graph.type(tensor).bytes // _WORD)


def _zeros(graph: Graph, public: str, at: int) -> str:
    """A loop that stores what stands for 0."""
    tensor = graph.tensor(graph.inputs[public])
    type, zero = (
        C_TYPES[tensor.type.dtype],
        0 if tensor.qparams is None else tensor.qparams.zero_point,
    )
    target = f"(({type} *)(words + {at}))[i]"
    return f"  for (int32_t i = 0; i < {tensor.type.size}; i++) {target} = {zero};\n"


def _added(graph: Graph, name: str, state: State, cache: int, rows: int, next: int) -> str:
    """The call that copies a run's rows into their cache."""
    bytes = state.row_size * graph.type(graph.inputs[state.input]).dtype.bytes
    return (
        f"  {name}_add_rows(words + {next}, (unsigned char *)(words + {cache}),\n"
        f"    (const unsigned char *)(words + {rows}), {state.outer}, {state.capacity}, "
        f"{state.rows}, {bytes});\n"
    )


def _arguments(graph: Graph, at: _Layout) -> tuple[list[str], list[str]]:
    """What a step is given, and what it gives to the run."""
    inputs, outputs = list(graph.inputs.values()), list(graph.outputs.values())
    read = {public: f"from + {place}" for public, place in at.whole.items()}
    read |= {public: f"words + {place}" for public, (place, _, _) in at.caches.items()}
    written = {public: f"to + {place}" for public, place in at.whole.items()}
    written |= {public: f"words + {rows}" for public, (_, rows, _) in at.caches.items()}
    place_of = {output: written[public] for public, output in graph.states.items()}
    parameters, arguments = [], []
    for i, (public, t) in enumerate(graph.inputs.items()):
        type = C_TYPES[graph.type(t).dtype]
        if public in read:
            arguments.append(f"(const {type} *)({read[public]})")
        else:
            arguments.append(f"input{suffix_of(i, inputs)}")
            parameters.append(f"const {type} *{arguments[-1]}")
    for i, (public, t) in enumerate(graph.outputs.items()):
        type = C_TYPES[graph.type(t).dtype]
        if public in place_of:
            arguments.append(f"({type} *)({place_of[public]})")
        else:
            arguments.append(f"output{suffix_of(i, outputs)}")
            parameters.append(f"{type} *{arguments[-1]}")
    return parameters, arguments
