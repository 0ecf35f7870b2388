"""The functions of a header that keep states between runs, in memory of the caller.

The memory has two places for all states. A run reads one and writes the other, so that nothing is
copied and no tensor of the run overlaps another; an int16_t behind both says which is which.
"""

from __future__ import annotations

from qcomp.ir.graph import Graph
from qcomp.targets.cpu.library.float_helpers import C_TYPES, suffix_of

_WORD = 2  # bytes of the largest element, which every state begins at a multiple of

_RESET = """\
/* `state`: {upper}_STATE_BYTES bytes of the caller's, aligned to int16_t. All states are 0. */
static inline void {name}_reset(void *state) {{
  int16_t *const words = (int16_t *)state;
  words[{last}] = 0;
{zeros}\
}}
"""

_STEP = """\
/* A run on the states that the last one left in `state`, which it leaves its own in; where it does
   not return QCOMP_OK, these are as they were. One step at a time of a state. */
static inline int {name}_step({parameters}, void *state, void *arena) {{
  int16_t *const words = (int16_t *)state;
  int16_t *const from = words + (words[{last}] ? {half} : 0);
  int16_t *const to = words + (words[{last}] ? 0 : {half});
  const int status = {name}_run({arguments}, arena);
  if (status == QCOMP_OK) words[{last}] = (int16_t)!words[{last}];
  return status;
}}
"""


def state_helpers(graph: Graph, name: str) -> list[str]:
    """NAME_STATE_BYTES, NAME_reset and NAME_step; nothing without states."""
    if not graph.states:
        return []
    places, half = _places(graph)
    parameters, arguments = _arguments(graph, places)
    fields = {"name": name, "upper": name.upper(), "half": half, "last": 2 * half}
    zeros = "".join(_zeros(graph, public, at) for public, at in places.items())
    return [
        f"#define {name.upper()}_STATE_BYTES {_WORD * (2 * half + 1)}",
        _RESET.format(zeros=zeros, **fields),
        _STEP.format(parameters=", ".join(parameters), arguments=", ".join(arguments), **fields),
    ]


def _places(graph: Graph) -> tuple[dict[str, int], int]:
    """Where each state begins, in words, and how many words all of them have."""
    places, end = {}, 0
    for public in graph.states:
        places[public] = end
        end += -(-graph.type(graph.inputs[public]).bytes // _WORD)
    return places, end


def _zeros(graph: Graph, public: str, at: int) -> str:
    """A loop that stores what stands for 0."""
    tensor = graph.tensor(graph.inputs[public])
    type, zero = (
        C_TYPES[tensor.type.dtype],
        0 if tensor.qparams is None else tensor.qparams.zero_point,
    )
    target = f"(({type} *)(words + {at}))[i]"
    return f"  for (int32_t i = 0; i < {tensor.type.size}; i++) {target} = {zero};\n"


def _arguments(graph: Graph, places: dict[str, int]) -> tuple[list[str], list[str]]:
    """What a step is given, and what it gives to the run."""
    inputs, outputs = list(graph.inputs.values()), list(graph.outputs.values())
    place_of = {output: places[public] for public, output in graph.states.items()}
    parameters, arguments = [], []
    for i, (public, t) in enumerate(graph.inputs.items()):
        type = C_TYPES[graph.type(t).dtype]
        if public in places:
            arguments.append(f"(const {type} *)(from + {places[public]})")
        else:
            arguments.append(f"input{suffix_of(i, inputs)}")
            parameters.append(f"const {type} *{arguments[-1]}")
    for i, (public, t) in enumerate(graph.outputs.items()):
        type = C_TYPES[graph.type(t).dtype]
        if public in place_of:
            arguments.append(f"({type} *)(to + {place_of[public]})")
        else:
            arguments.append(f"output{suffix_of(i, outputs)}")
            parameters.append(f"{type} *{arguments[-1]}")
    return parameters, arguments
