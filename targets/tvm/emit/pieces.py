"""C that all launchers share: the arguments of NAME_run, the tensors' descriptions, bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple

from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Tensor
from qcomp.targets.base import ABI
from qcomp.targets.cpu.library.float_helpers import C_TYPES, suffix_of
from qcomp.targets.cpu.library.module import MAX_RANK, NAME_BYTES, TYPE_CODES
from qcomp.targets.identity import MARK, Identity

_A_LINE = 8  # words
HIDDEN = """\
#ifdef __GNUC__
__attribute__((visibility("hidden")))
#endif
"""  # before what other objects of the library may use, and programs not


def run_parameters(graph: Graph) -> list[str]:
    """Of NAME_run, as the header declares it."""
    inputs, outputs = list(graph.inputs.values()), list(graph.outputs.values())
    return [
        *(f"const {C_TYPES[graph.type(t).dtype]} *input{suffix_of(i, inputs)}"
          for i, t in enumerate(inputs)),
        *(f"{C_TYPES[graph.type(t).dtype]} *output{suffix_of(i, outputs)}"
          for i, t in enumerate(outputs)),
        "void *arena",
    ]  # fmt: skip


def run_arguments(graph: Graph) -> list[str]:
    """Their names, inputs first; without the arena."""
    inputs, outputs = list(graph.inputs), list(graph.outputs)
    return [
        *(f"input{suffix_of(i, inputs)}" for i in range(len(inputs))),
        *(f"output{suffix_of(i, outputs)}" for i in range(len(outputs))),
    ]


def descriptions(graph: Graph, name: str) -> Iterator[str]:
    """NAME_inputs and NAME_outputs."""
    for kind, tensors in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        yield f"const qcomp_tensor {name}_{kind}[{len(tensors)}] = {{"
        for public, id in tensors.items():
            yield f"  {_description(public, graph.tensor(id))},"
        yield "};"


def _description(name: str, tensor: Tensor) -> str:
    type, q = tensor.type, tensor.qparams
    if type.rank > MAX_RANK:
        raise TargetError(f"{name} has rank {type.rank}; accepted: up to {MAX_RANK}")
    short = name.encode()[: NAME_BYTES - 1].decode(errors="ignore").encode()
    text = "".join(f"\\{byte:03o}" for byte in short)
    extents = ", ".join(map(str, (*type.shape, *[0] * (MAX_RANK - type.rank))))
    scale = (q.scale if q else 1.0).hex()
    code, zero_point = TYPE_CODES[type.dtype], q.zero_point if q else 0
    return f'{{"{text}", {code}, {type.rank}, {{{extents}}}, (float){scale}, {zero_point}}}'


def identity(of: Identity, name: str) -> Iterator[str]:
    """NAME_init, which has nothing to do, NAME_abi and NAME_sizes."""
    mark = ", ".join(f"'{chr(byte)}'" for byte in MARK)
    yield f"static const struct {{ char mark[{len(MARK)}]; qcomp_sizes sizes; }} of_the_build ="
    yield f"  {{{{{mark}}}, {{{', '.join(f'{n}u' for n in astuple(of))}}}}};"
    yield f"int {name}_init(void) {{ return 0; }}"
    yield f"int {name}_abi(void) {{ return {ABI}; }}"
    yield f"const qcomp_sizes *{name}_sizes(void) {{ return &of_the_build.sizes; }}"


def words_in_c(symbol: str, content: bytes, storage: str = HIDDEN) -> Iterator[str]:
    """Bytes as an array of C whose elements have 8, and their alignment; little-endian."""
    padded = content + bytes(-len(content) % 8) or bytes(8)
    words = [padded[at : at + 8] for at in range(0, len(padded), 8)]
    yield "#include <stdint.h>"
    yield f"{storage}const uint64_t {symbol}[{len(words)}] = {{"
    for at in range(0, len(words), _A_LINE):
        line = (int.from_bytes(word, "little") for word in words[at : at + _A_LINE])
        yield "".join(f"{number:#x}u," for number in line)
    yield "};"
