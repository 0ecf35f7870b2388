"""The walk over the nodes of a graph and of its subgraphs: a rule each, every problem collected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import onnx

from qcomp.frontends.limits import Refused
from qcomp.frontends.onnx.branches import Branches, branches_of
from qcomp.frontends.onnx.constants import fold
from qcomp.frontends.onnx.context import Context
from qcomp.frontends.onnx.decode import decode_node, own_node, result_types
from qcomp.frontends.onnx.expansions import EXPANSIONS, expanded
from qcomp.frontends.onnx.infer import InferredType, node_types
from qcomp.frontends.onnx.load import DEFAULT_DOMAINS
from qcomp.frontends.onnx.loops import MOST_NODES, Along, Loop, loop_of, stack
from qcomp.frontends.onnx.own_rules import apply_own, has_own
from qcomp.frontends.onnx.quantized import BORDERS, CONTRIB
from qcomp.frontends.onnx.rules import FOLDED_ONLY, RULES
from qcomp.frontends.onnx.sequences import SEQUENCES
from qcomp.frontends.onnx.structure import describe, ordered_nodes, reads, subgraphs
from qcomp.frontends.onnx.tensors import NUMBERS, PACKED, decode_tensor
from qcomp.ir.ops import Reshape, Select
from qcomp.ir.tensor import DType, Tensor, TensorId, TensorType

_LOOPS = ("Loop", "Scan")
_DEEPEST_CHOICE = 4  # of nested branches that are all computed; each level doubles them


class NodeReader:
    """Values that could not be made are `Context.lost`, with their readers."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.problems: list[str] = []
        self._unrolled = 0

    def read_initializers(self, graph: onnx.GraphProto, context: Context) -> None:
        for proto in graph.initializer:
            label = f"initializer {proto.name!r}"
            data = decode_tensor(proto, self.folder, label)
            context.constants[proto.name] = data
            if proto.data_type in PACKED:
                context.element_types[proto.name] = proto.data_type
            context.folding.given(data.size)

    def read(self, nodes: Sequence[onnx.NodeProto], context: Context) -> None:
        for proto in nodes:
            lost = any(name in context.lost for name in reads(proto))
            problem = _refusal(proto, lost) or _misread_sequence(proto, context)
            if problem is None and lost:
                _lose(proto, context)
                continue
            try:
                if problem is not None:
                    raise Refused(problem)
                if proto.op_type == "If":
                    self._read_if(proto, context)
                elif proto.op_type in _LOOPS:
                    self._read_loop(proto, loop_of(context, proto), context)
                else:
                    for part in expanded(context, proto):
                        _read_node(context, part)
            except (Refused, ArithmeticError, ValueError) as error:
                self.problems.append(f"{describe(proto)}: {error}")
                _lose(proto, context)

    def _read_if(self, proto: onnx.NodeProto, context: Context) -> None:
        """A constant condition takes a branch; with another both are computed, and one chosen."""
        branches = branches_of(context, proto)
        if branches.taken is not None:
            inner = self._read_branch(branches.taken, context)
            for name, source in zip(proto.output, branches.taken.output, strict=True):
                context.bind(name, inner, source.name)
        else:
            self._read_both(proto, branches, context)

    def _read_branch(self, branch: onnx.GraphProto, context: Context) -> Context:
        nodes = ordered_nodes(branch, context)
        inner = context.inner(used_names(nodes, branch))
        self.read_initializers(branch, inner)
        self.read(nodes, inner)
        return inner

    def _read_both(self, proto: onnx.NodeProto, branches: Branches, context: Context) -> None:
        graph = context.graph
        if context.depth >= _DEEPEST_CHOICE:
            raise Refused(
                f"its condition depends on an input, as those of the {context.depth} If around it",
                f"computed conditions up to {_DEEPEST_CHOICE} deep",
            )
        condition = context.values[proto.input[0]]
        if graph.type(condition).size != 1:
            raise Refused(f"a condition of {graph.type(condition).size} elements", "one")
        scalar = Reshape(
            inputs=(condition,), output=graph.fresh_id(f"{condition}.scalar"), shape=()
        )
        chosen = graph.add_op(scalar)
        sides = [(b, self._read_branch(b, context)) for b in (branches.then, branches.other)]
        for index, name in enumerate(proto.output):
            sources = [(inner, branch.output[index].name) for branch, inner in sides]
            if any(source in inner.lost for inner, source in sources):
                context.lost.add(name)
                continue
            a, b = (_result(inner, source) for inner, source in sources)
            if graph.type(a) != graph.type(b):
                raise Refused(
                    f"its branches give {graph.type(a)} and {graph.type(b)}, and its condition "
                    "depends on an input",
                    "branches whose results have one type",
                )
            op = Select(inputs=(chosen, a, b), output=graph.fresh_id(name))
            context.values[name] = graph.add_op(op)
            context.element_types[name] = sources[0][0].element_type(sources[0][1])
        context.notes.append(f"{describe(proto)}: both branches are computed, and one is chosen")

    def _read_loop(self, proto: onnx.NodeProto, loop: Loop, context: Context) -> None:
        """The nodes of the body for each trip; what trips stack up is joined behind them."""
        nodes = ordered_nodes(loop.body, context)
        self._unrolled += loop.trips * len(nodes)
        if self._unrolled > MOST_NODES:
            raise Refused(
                f"{loop.trips} trips of {len(nodes)} nodes would be {self._unrolled} nodes",
                f"up to {MOST_NODES} in all; LSTM, GRU and RNN are loops of any length",
            )
        at = [(context, c.initial) for c in loop.carried]
        parts: dict[Along, list[str]] = {part: [] for part in loop.stacked}
        for trip in range(loop.trips):
            inner = context.inner(used_names(nodes, loop.body))
            inner.constants.update(loop.constants(trip))
            for carried, (source, name) in zip(loop.carried, at, strict=True):
                inner.bind(carried.before, source, name)
            before = len(self.problems)
            self.read_initializers(loop.body, inner)
            self.read([*loop.slices(trip, inner), *nodes], inner)
            if len(self.problems) > before:  # which the next trip would have again
                _lose(proto, context)
                return
            at = [(inner, c.after) for c in loop.carried]
            for part, names in parts.items():
                names.append(f"{part.outside or part.inside}.{trip}")
                context.bind(names[-1], inner, part.inside)
            if not loop.follows(inner):
                break
        for carried, (source, name) in zip(loop.carried, at, strict=True):
            context.bind(carried.result, source, name)
        for part, names in parts.items():
            if part.outside and not names:
                raise Refused("no trip, which stacks up nothing", "one or more")
            self.read(stack(part, names, context) if part.outside else [], context)
        if loop.trips:
            context.notes.append(
                f"{describe(proto)}: unrolled, {loop.trips} trips of {len(nodes)} nodes"
            )


def _result(inner: Context, name: str) -> TensorId:
    """A value inside of a branch as a tensor of the graph."""
    if name in inner.constants:
        return inner.graph.add_constant(name, inner.floats(name))
    if name not in inner.values:
        raise Refused(
            f"{name!r}, which a branch gives, is a sequence, and its condition depends on an input",
            "branches that give tensors",
        )
    return inner.values[name]


def used_names(nodes: Iterable[onnx.NodeProto], graph: onnx.GraphProto) -> set[str]:
    """The values that nodes read, or that their graph gives."""
    return {name for node in nodes for name in reads(node)} | {o.name for o in graph.output}


def _read_node(context: Context, proto: onnx.NodeProto) -> None:
    if proto.domain not in DEFAULT_DOMAINS:
        apply_own(own_node(context, proto))
        return
    node = decode_node(context, proto)
    if fold(node):
        return
    if node.op_type in RULES:
        RULES[node.op_type](node)
    elif has_own(proto):
        apply_own(node)
    else:
        raise _unsupported(node.op_type)
    context.element_types.update(result_types(node))


def _refusal(proto: onnx.NodeProto, lost: bool) -> str | None:
    """Why no rule needs to look at the node, or None. A lost operand can't be folded away."""
    if (proto.domain, proto.op_type) in EXPANSIONS or _is_contributed(proto):
        return None
    if proto.domain not in DEFAULT_DOMAINS:
        if has_own(proto):
            return None
        known = ", ".join(sorted(op for domain, op in EXPANSIONS if domain == CONTRIB))
        return f"domain {proto.domain!r} is unknown; accepted: ai.onnx, and of {CONTRIB} {known}"
    if lost and proto.op_type not in (*RULES, *FOLDED_ONLY, "If", *_LOOPS) and not has_own(proto):
        return str(_unsupported(proto.op_type))
    return None


def _misread_sequence(proto: onnx.NodeProto, context: Context) -> str | None:
    """Why a node can't read a sequence, or None."""
    known = (proto.domain, proto.op_type) in SEQUENCES
    read = [] if known else [name for name in reads(proto) if name in context.sequences]
    return f"{read[0]!r} is a sequence; accepted: tensors" if read else None


def _is_contributed(proto: onnx.NodeProto) -> bool:
    """QuantizeLinear of onnxruntime's domain, which older opsets need for 16 bits."""
    return proto.domain == CONTRIB and proto.op_type in BORDERS


def _unsupported(op_type: str) -> Refused:
    if op_type in FOLDED_ONLY:
        return Refused("its operands are not constant", "operands known at compile time")
    return Refused(f"operator {op_type} is not supported", "those of docs/onnx-operators.md")


def _lose(proto: onnx.NodeProto, context: Context) -> None:
    """Go on with the types that onnx infers, so that later nodes are looked at too."""
    types = _inferred(proto, context)
    for name in filter(None, proto.output):
        context.constants.pop(name, None)
        type = types.get(name)
        if type is None or type.element_type not in NUMBERS or not type.size:
            context.values.pop(name, None)
            context.lost.add(name)
        else:
            id = context.graph.fresh_id(name)
            context.graph.add_tensor(Tensor(id, TensorType(DType.F32, type.shape)))
            context.values[name] = id
            context.element_types[name] = type.element_type


def _inferred(proto: onnx.NodeProto, context: Context) -> Mapping[str, InferredType]:
    """The types that a refused node would have given; none if its operands are unknown too."""
    unknown = any(name in context.lost or name in context.sequences for name in proto.input)
    if proto.domain not in DEFAULT_DOMAINS or unknown or any(subgraphs(proto)):
        return {}
    return node_types(proto, context)
