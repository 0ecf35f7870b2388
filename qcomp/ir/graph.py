"""The graph: a bipartite networkx.DiGraph of ops and tensors, and its few mutators.

Nodes carry one frozen payload each. Operand order lives in `Op.inputs`; edges are derived from it.
The order of ops is a topological sort that breaks ties by creation, so dumps and generated symbols
are the same on each run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import networkx as nx
import numpy as np

from qcomp.ir.digraph import copied, needed_for, topological_order
from qcomp.ir.ops.base import Op, OperandError
from qcomp.ir.tensor import FLOATS, Array, Mark, Origin, Tensor, TensorId, TensorType, constant
from qcomp.quant.conversion import Conversion
from qcomp.quant.tail import Tail

_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_./\-]")


def _op_node(id: TensorId) -> str:
    return f"op {id}"


def sanitized(name: str) -> str:
    """A name that the text format can print; never empty."""
    return _NOT_IN_IDS.sub("_", name) or "_"


@dataclass
class Graph:
    """`inputs` and `outputs` map public names to tensors; a rewrite never renames them.

    `conversions` are what is done to some of them outside, in floats, by public name: the graph's
    values are those inside. `tails` are functions that come after that at outputs. `states` maps
    inputs to the outputs whose values they have in the next run, in integers as they are.
    """

    name: str
    inputs: dict[str, TensorId] = field(default_factory=dict)
    outputs: dict[str, TensorId] = field(default_factory=dict)
    conversions: dict[str, Conversion] = field(default_factory=dict)
    tails: dict[str, Tail] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    _nx: Any = field(default_factory=lambda: nx.DiGraph(), repr=False)
    _serial: int = 0
    _order: list[str] | None = field(default=None, repr=False, compare=False)  # until edges change

    # ------------------------------------------------------------------ reading

    def tensor(self, id: TensorId) -> Tensor:
        """The tensor; KeyError if there is none."""
        tensor: Tensor = self._nx._node[id]["tensor"]
        return tensor

    def type(self, id: TensorId) -> TensorType:
        return self.tensor(id).type

    def data(self, id: TensorId) -> Array:
        """The array of a constant; KeyError for an activation."""
        data = self.tensor(id).data
        if data is None:
            raise KeyError(f"%{id} is not a constant")
        return data

    def is_constant(self, id: TensorId) -> bool:
        return self.tensor(id).is_constant

    def __contains__(self, id: TensorId) -> bool:
        return id in self._nx

    def op(self, id: TensorId) -> Op:
        """The op whose result is `id`; KeyError if there is none."""
        op: Op = self._nx._node[_op_node(id)]["op"]
        return op

    def producer(self, id: TensorId) -> Op | None:
        """The op that defines the tensor; None for inputs and constants."""
        return self.op(id) if _op_node(id) in self._nx else None

    def consumers(self, id: TensorId) -> list[Op]:
        """The ops that read the tensor, each once, in creation order."""
        nodes = [self._nx._node[n] for n in self._nx._succ[id]]
        return [n["op"] for n in sorted(nodes, key=lambda n: n["serial"])]

    def is_output(self, id: TensorId) -> bool:
        return id in self.outputs.values()

    def is_kept(self, op: Op) -> bool:
        """Whether the op is computed in floats though others become integers."""
        return self.tensor(op.output).kept

    @property
    def is_integer_only(self) -> bool:
        """Whether no tensor is a float: what a target without floats asks for."""
        return all(tensor.type.dtype not in FLOATS for tensor in self.tensors())

    def sole_consumer(self, id: TensorId) -> Op | None:
        """The only reader of a tensor that is not a graph output, else None."""
        consumers = self.consumers(id)
        return consumers[0] if len(consumers) == 1 and not self.is_output(id) else None

    def activations(self, op: Op) -> list[TensorId]:
        """The operands that are not constants."""
        return [t for t in op.inputs if not self.is_constant(t)]

    def ops(self) -> list[Op]:
        """All ops in a deterministic topological order; the graph may change under the list."""
        if self._order is None:
            self._order = topological_order(self._nx)
        payloads = map(self._nx._node.get, self._order)
        return [payload["op"] for payload in payloads if "op" in payload]

    def tensors(self) -> list[Tensor]:
        """All tensors in creation order."""
        nodes = [n for n in self._nx._node.values() if "tensor" in n]
        return [n["tensor"] for n in sorted(nodes, key=lambda n: n["serial"])]

    def view(self) -> nx.DiGraph[str]:
        """A read-only view for analyses with networkx."""
        frozen: nx.DiGraph[str] = nx.freeze(self._nx.copy(as_view=True))
        return frozen

    def fresh_id(self, hint: str) -> TensorId:
        """An id that is not taken, from a readable hint."""
        hint = sanitized(hint)
        if hint not in self._nx:
            return hint
        n = 1
        while f"{hint}.{n}" in self._nx:
            n += 1
        return f"{hint}.{n}"

    # ----------------------------------------------------------------- mutating

    def add_tensor(self, tensor: Tensor) -> TensorId:
        """Add an input or a constant (op results are added by add_op)."""
        if sanitized(tensor.id) != tensor.id:
            raise ValueError(f"{tensor.id!r} is not an id; expected letters, digits and _./-")
        if tensor.id in self._nx:
            raise ValueError(f"tensor %{tensor.id} exists already")
        self._add_node(tensor.id, tensor=tensor)
        return tensor.id

    def add_constant(self, hint: str, data: Array, origin: Origin | None = None) -> TensorId:
        return self.add_tensor(constant(self.fresh_id(hint), data, origin))

    def add_input(self, name: str, type: TensorType) -> TensorId:
        id = self.add_tensor(Tensor(self.fresh_id(name), type))
        self.inputs[name] = id
        return id

    def add_op(self, op: Op, origin: Origin | None = None) -> TensorId:
        """Add an op and its result, whose type is inferred; ValueError if operands misfit."""
        self.add_tensor(Tensor(op.output, self._result_type(op), origin=origin))
        self._add_node(_op_node(op.id), op=op)
        self._link(op)
        return op.output

    def replace_op(self, op: Op, **tensor_changes: Any) -> None:
        """Put another op in the place of the one with the same id; it keeps the place in the order.

        ValueError, and the graph as it was, if operands misfit.
        """
        node = _op_node(op.id)
        type = self._result_type(op)
        before, self._nx._node[node]["op"] = self.op(op.id), op
        if before.inputs != op.inputs:
            self._nx.remove_edges_from(list(self._nx.in_edges(node)))
            self._link(op)
        self.update_tensor(replace(self.tensor(op.output), type=type, **tensor_changes))

    def update_tensor(self, tensor: Tensor) -> None:
        """Replace a tensor's record (range, qparams, data); its id must exist."""
        self._nx._node[tensor.id]["tensor"] = tensor

    def replace_uses(self, old: TensorId, new: TensorId) -> None:
        """Let every reader of `old`, and the graph outputs, read `new` instead."""
        for op in self.consumers(old):
            if op.output != new:
                self.set_inputs(op, tuple(new if t == old else t for t in op.inputs))
        self.outputs = {name: new if t == old else t for name, t in self.outputs.items()}

    def mark(self, id: TensorId, mark: Mark) -> None:
        """Say of a tensor that stands for one of the model's how its values were rewritten."""
        tensor = self.tensor(id)
        if tensor.origin is not None:
            self.update_tensor(replace(tensor, origin=tensor.origin.marked(mark)))

    def set_inputs(self, op: Op, inputs: tuple[TensorId, ...]) -> None:
        self.replace_op(replace(op, inputs=inputs))

    def erase(self, id: TensorId) -> None:
        """Remove a tensor and its producer; nothing may read it."""
        if self.consumers(id) or self.is_output(id) or id in self.inputs.values():
            raise ValueError(f"%{id} is still in use")
        self._remove([n for n in (_op_node(id), id) if n in self._nx])

    def sweep(self) -> None:
        """Remove ops and constants that no output needs; inputs stay."""
        live = needed_for(self._nx, (*self.outputs.values(), *self.inputs.values()))
        self._remove([n for n in self._nx if n not in live])

    def __deepcopy__(self, memo: dict[int, Any]) -> Graph:
        """Payloads are frozen, so a clone shares nothing that changes."""
        return self.clone()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As pickled; the arrays of constants stay read-only."""
        self.__dict__.update(state)
        for tensor in self.tensors():
            if tensor.data is not None:
                tensor.data.flags.writeable = False

    def clone(self) -> Graph:
        """A copy that shares the payloads and arrays."""
        return Graph(
            self.name,
            dict(self.inputs),
            dict(self.outputs),
            dict(self.conversions),
            dict(self.tails),
            dict(self.states),
            copied(self._nx),
            self._serial,
            self._order,
        )

    def restore(self, saved: Graph) -> None:
        """Become what a clone saved: how a pass takes back a trial."""
        copy = saved.clone()
        self.inputs, self.outputs = copy.inputs, copy.outputs
        self.conversions, self.tails, self.states = copy.conversions, copy.tails, copy.states
        self._nx, self._serial, self._order = copy._nx, copy._serial, copy._order

    def _add_node(self, node: str, **payload: object) -> None:
        self._nx.add_node(node, serial=self._serial, **payload)
        self._serial += 1

    def _remove(self, nodes: list[str]) -> None:
        if nodes:
            self._nx.remove_nodes_from(nodes)
            self._order = None

    def _result_type(self, op: Op) -> TensorType:
        for t in op.inputs:
            if t not in self._nx:
                raise ValueError(f"%{op.id} reads %{t}, which does not exist")
        expected = "at least 1" if op.arity is None else op.arity
        if len(op.inputs) != (op.arity or max(len(op.inputs), 1)):
            raise ValueError(f"%{op.id}: expected {expected} operands, got {len(op.inputs)}")
        try:
            return op.result_type(*(self.type(t) for t in op.inputs))
        except OperandError as error:
            error.add_note(f"%{op.id} = {op.mnemonic}({', '.join('%' + t for t in op.inputs)})")
            raise

    def _link(self, op: Op) -> None:
        node = _op_node(op.id)
        self._nx.add_edges_from((t, node) for t in op.inputs)
        self._nx.add_edge(node, op.output)
        self._order = None

    def __str__(self) -> str:
        from qcomp.ir.text import format_graph

        return format_graph(self)


Arrays = Mapping[str, Array]


def constants_of(graph: Graph) -> Iterator[tuple[TensorId, Array]]:
    """Ids and arrays of all constants, in creation order."""
    for tensor in graph.tensors():
        if tensor.data is not None:
            yield tensor.id, tensor.data


def computes_the_same(a: Graph, b: Graph) -> bool:
    """Whether two graphs have the same ops and the same numbers, under the same ids."""
    if a.ops() != b.ops() or a.outputs != b.outputs:
        return False
    constants = dict(constants_of(b))
    return all(
        data is constants[id] or np.array_equal(data, constants[id])
        for id, data in constants_of(a)
        if a.consumers(id)
    )
