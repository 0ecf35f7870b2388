"""A network's outputs with activations rounded in one way or another: trials by the hundred.

The network is cut into blocks (blocks.py). What each block reads is kept for every sample, so that
a trial begins with the block in which the first rounded tensor is read, and goes through what the
change reaches. A block has two sessions, made when they are first needed: one as the network is,
and one in which every activation is rounded, with parameters that are inputs (rounding.py). Tensors
that are not tried are rounded there as in the network, or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from qcomp.execute.blocks import Block, blocks_of, work_of
from qcomp.execute.session import FloatSession
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Quantize
from qcomp.ir.region import between
from qcomp.ir.tensor import Array, TensorId
from qcomp.quant.rounding import NOTHING, Rounding

MOST_BLOCKS = 8
_CALL = 14_000_000  # multiplications in the time that a call of a session takes by itself

Feed = Mapping[str, Array]
Answers = Mapping[str, Array]


class Trials:
    """Outputs by public name, for each sample, of `graph` with some tensors rounded otherwise.

    graph: a float graph, or a QDQ graph.
    rounded: the same with quantize and dequantize around all that may be tried, and outputs of the
        same names; a QDQ graph itself.
    samples: inputs by public name. What blocks read is kept for each.
    blocks: about how many; as many as make trials short, if nothing is said.
    """

    def __init__(
        self, graph: Graph, rounded: Graph, samples: Sequence[Feed], blocks: int | None = None
    ) -> None:
        found = blocks_of(graph, best_count(graph) if blocks is None else blocks)
        self._parts = [_Part(graph, rounded, block) for block in found]
        self._samples = [_Sample(graph, self._parts, sample) for sample in samples]

    @property
    def untouched(self) -> list[Answers]:
        """The outputs of the graph itself."""
        return [sample.answers for sample in self._samples]

    def trial(
        self, changes: Mapping[TensorId, Rounding], end: int, first: int = 0
    ) -> list[Answers]:
        """Of the samples up to `end`, with these float tensors rounded so wherever they are read.

        KeyError for a tensor that is not among the rounded.
        """
        reached = [part.sites.keys() & changes.keys() for part in self._parts]
        if unknown := changes.keys() - {t for sites in reached for t in sites}:
            raise KeyError(", ".join(sorted(unknown)))
        parameters = [
            part.parameters(changes) if sites else None
            for part, sites in zip(self._parts, reached, strict=True)
        ]
        return [self._answers(s, parameters) for s in self._samples[first:end]]

    def _answers(
        self, sample: _Sample, parameters: Sequence[Mapping[str, Array] | None]
    ) -> Answers:
        """`parameters` of the parts in which something is tried."""
        moved: dict[TensorId, Array] = {}
        answers = dict(sample.answers)
        for part, kept, own in zip(self._parts, sample.kept, parameters, strict=True):
            if own is None and not moved.keys() & kept.keys():
                continue
            feed = {t: moved.get(t, value) for t, value in kept.items()}
            given, outputs = part.run(feed) if own is None else part.tried(feed, own)
            moved |= given
            answers |= outputs
        return answers


def best_count(graph: Graph) -> int:
    """How many blocks make a trial shortest, which on average begins in the middle.

    Of n blocks that is n / 2 + 1 / 2 calls, each of an n-th of the work and what a call costs.
    """
    work = sum(work_of(graph, op) for op in graph.ops())
    return min(max(round(math.sqrt(work / _CALL)), 1), MOST_BLOCKS)


@dataclass(eq=False)
class _Part:
    """A block with its sessions."""

    graph: Graph
    rounded: Graph
    block: Block

    @cached_property
    def sites(self) -> dict[TensorId, TensorId]:
        """The quantized tensors of the block, by the floats that they round."""
        ops = (op for op in self._open_graph.ops() if isinstance(op, Quantize))
        return {op.x: op.output for op in ops}

    def run(self, feed: Feed) -> tuple[Feed, Answers]:
        """What ops behind read, and outputs."""
        result = self._session.run(_inputs(self._graph, feed))
        return self._split({**feed, **result}, self.block.outputs)

    def parameters(self, changes: Mapping[TensorId, Rounding]) -> Mapping[str, Array]:
        """Of all tensors that may be tried, some of them rounded otherwise."""
        roundings = {q: changes.get(t, self._default[q]) for t, q in self.sites.items()}
        return self._open_session.parameters(roundings)

    def tried(self, feed: Feed, parameters: Mapping[str, Array]) -> tuple[Feed, Answers]:
        """The same as `run` with tensors rounded so."""
        outputs = {name: self.rounded.outputs[name] for name in self.block.outputs}
        result = self._open_session.run(_inputs(self._open_graph, feed), parameters)
        return self._split({**feed, **result}, outputs)

    def _split(self, values: Feed, outputs: Mapping[str, TensorId]) -> tuple[Feed, Answers]:
        given = {t: values[t] for t in self.block.gives}
        return given, {name: values[id] for name, id in outputs.items()}

    @cached_property
    def _graph(self) -> Graph:
        wanted = dict.fromkeys((*self.block.gives, *self.block.outputs.values()))
        return between(self.graph, self.block.reads, wanted)

    @cached_property
    def _session(self) -> FloatSession:
        return FloatSession(self._graph)

    @cached_property
    def _open_graph(self) -> Graph:
        outputs = (self.rounded.outputs[name] for name in self.block.outputs)
        wanted = dict.fromkeys((*self.block.gives, *outputs))
        return between(self.rounded, self.block.reads, wanted)

    @cached_property
    def _open_session(self) -> FloatSession:
        return FloatSession(self._open_graph, open_tensors=list(self.sites.values()))

    @cached_property
    def _default(self) -> dict[TensorId, Rounding]:
        """How the graph itself rounds these."""
        return {q: _rounding(self.graph, q) for q in self.sites.values()}


@dataclass(eq=False)
class _Sample:
    """What each part reads of a sample, and its outputs."""

    graph: Graph
    parts: Sequence[_Part]
    sample: Feed
    kept: list[Feed] = field(default_factory=list)
    answers: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = {id: self.sample[name] for name, id in self.graph.inputs.items()}
        constant = {n: t for n, t in self.graph.outputs.items() if self.graph.is_constant(t)}
        self.answers |= {name: self.graph.data(id) for name, id in constant.items()}
        for part in self.parts:
            feed = {t: values[t] for t in part.block.reads}
            given, outputs = part.run(feed)
            self.kept.append(feed)
            self.answers |= outputs
            values |= given


def _inputs(graph: Graph, feed: Feed) -> Feed:
    """Those that the graph has; an op that nothing reads may have read others."""
    return {t: feed[t] for t in graph.inputs}


def _rounding(graph: Graph, id: TensorId) -> Rounding:
    qparams = graph.tensor(id).qparams if id in graph else None
    return NOTHING if qparams is None else Rounding.of(qparams)
