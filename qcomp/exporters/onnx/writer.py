"""Writes ONNX nodes and keeps each tensor in the layouts that were asked for.

The graph is NHWC and ONNX's spatial operators are NCHW. A value exists in one layout when it is
defined; the other is made by a Transpose when somebody first reads it, so chains of spatial and
elementwise ops stay in NCHW and pay for no transposes.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper

from qcomp.exporters.onnx.dialect import SESSION, Dialect
from qcomp.ir.graph import Graph
from qcomp.ir.ops import ClampRange, FakeQuantConstant, IntegerConstant, QuantizedConstant
from qcomp.ir.tensor import Array, TensorId

OPEN_FIELDS = ("scale", "low", "high")
"""The parameters of a tensor that is open, as of qcomp.quant.rounding.Rounding."""

Attribute = int | float | str | Sequence[int] | Sequence[float] | Sequence[str]


class Layout(enum.Enum):
    """Order of the axes of a rank-4 value; values of other ranks are only in OURS."""

    OURS = (0, 1, 2, 3)  # NHWC, or whatever the graph says
    FIRST = (0, 3, 1, 2)  # NCHW; axis i of it is axis FIRST.value[i] of ours

    def axis(self, axis: int) -> int:
        """Where our axis lies in this layout."""
        return self.value.index(axis) if self is Layout.FIRST else axis

    def arranged(self, per_axis: Sequence[int]) -> list[int]:
        """One number per axis of ours, in the order of this layout."""
        return [per_axis[i] for i in self.value] if self is Layout.FIRST else list(per_axis)


_OTHER = {Layout.OURS: Layout.FIRST, Layout.FIRST: Layout.OURS}
_MARKS = {Layout.OURS: "nhwc", Layout.FIRST: "nchw"}
_FROM_OTHER = {Layout.OURS: (0, 2, 3, 1), Layout.FIRST: (0, 3, 1, 2)}


class Writer:
    """The nodes of one model, and its initializers as arrays.

    `names` holds the ONNX name of each tensor, which is that of its value in OURS, or in FIRST for
    those that are `channels_first`.
    `open_tensors` are quantized, and their parameters are inputs of the model.
    """

    def __init__(
        self,
        graph: Graph,
        names: Mapping[TensorId, str],
        open_tensors: Collection[TensorId],
        dialect: Dialect = SESSION,
        channels_first: Collection[TensorId] = (),
    ) -> None:
        self.graph = graph
        self.channels_first = frozenset(channels_first)
        self.open_tensors = frozenset(open_tensors)
        self.dialect = dialect
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: dict[str, Array] = {}
        self._names = names
        self._taken = set(names.values())
        self._serial = itertools.count()
        self._values: dict[tuple[TensorId, Layout], str] = {}
        self._unnamed: dict[str, onnx.NodeProto] = {}
        self._parameters: dict[tuple[TensorId, tuple[int, ...]], str] = {}
        self._open: dict[tuple[str, Layout], str] = {}
        self._literals: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    # ------------------------------------------------------------------ nodes

    def emit(self, kind: str, inputs: Sequence[str], **attributes: Attribute) -> str:
        """Append a node of one result; the value's name."""
        return self.emit_of("", kind, inputs, **attributes)

    def emit_of(
        self, domain: str, kind: str, inputs: Sequence[str], **attributes: Attribute
    ) -> str:
        """The same, of an operator of another domain than ONNX's own."""
        (name,) = self._append(domain, kind, inputs, 1, attributes)
        self._unnamed[name] = self.nodes[-1]
        return name

    def emit_several(
        self, kind: str, inputs: Sequence[str], count: int, attributes: Mapping[str, Attribute]
    ) -> list[str]:
        """Append a node of `count` results; the values' names."""
        return self._append("", kind, inputs, count, attributes)

    def _append(
        self,
        domain: str,
        kind: str,
        inputs: Sequence[str],
        count: int,
        attributes: Mapping[str, Attribute],
    ) -> list[str]:
        names = [self._fresh(kind) for _ in range(count)]
        node = helper.make_node(kind, inputs, names, name=names[0], domain=domain)
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        self.nodes.append(node)
        return names

    def emit_as(self, name: str, kind: str, inputs: Sequence[str]) -> None:
        """Append a node whose result has the given name."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name))

    def emit_clamp(self, x: str, clamp: ClampRange) -> str:
        """Nothing, Relu or Clip."""
        if clamp.is_none:
            return x
        if clamp.low == 0 and clamp.high == math.inf:
            return self.emit("Relu", [x])
        bounds = [self.scalar(b) if math.isfinite(b) else "" for b in (clamp.low, clamp.high)]
        return self.emit("Clip", [x, *bounds] if bounds[1] else [x, bounds[0]])

    def literal(self, array: Array) -> str:
        """An initializer; equal arrays share one."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._literals:
            name = self._fresh("literal")
            self._literals[key] = name
            self._initializer(name, array)
        return self._literals[key]

    def scalar(self, value: float) -> str:
        return self.literal(np.array(value, np.float32))

    def integers(self, values: Sequence[int]) -> str:
        """A shape, a list of axes, and the like."""
        return self.literal(np.array(values, np.int64))

    def _fresh(self, hint: str) -> str:
        return next(n for i in self._serial if (n := f"{hint}:{i}") not in self._taken)

    # ----------------------------------------------------------------- values

    def define(self, id: TensorId, layout: Layout, value: str) -> None:
        """Say that `value` is the tensor in this layout; a new value takes the tensor's name."""
        node = self._unnamed.pop(value, None)
        if node is not None:
            value = self._name(id, layout)
            node.output[0] = node.name = value
        self._values[id, layout] = value

    def names(self) -> Mapping[TensorId, Sequence[str]]:
        """What each tensor is called, in every layout that it was written in."""
        names: dict[TensorId, list[str]] = {}
        for (id, _), name in (*self._values.items(), *self._parameters.items()):
            names.setdefault(id, []).append(name)
        return names

    def has(self, id: TensorId, layout: Layout) -> bool:
        """Whether the tensor can be read in this layout without a Transpose."""
        return self.is_parameter(id) or (id, layout) in self._values

    def read(self, id: TensorId, layout: Layout) -> str:
        """The value in the layout; transposed, once, if it is only in the other."""
        if self.is_parameter(id):
            return self.parameter(id, layout.value if layout is Layout.FIRST else None)
        if (id, layout) not in self._values:
            other = self._values[id, _OTHER[layout]]
            self.define(id, layout, self.emit("Transpose", [other], perm=_FROM_OTHER[layout]))
        return self._values[id, layout]

    def common_layout(self, ids: Sequence[TensorId]) -> Layout:
        """FIRST where all activations have rank 4 and one of them is at hand in it."""
        activations = [t for t in ids if not self.is_parameter(t)]
        spatial = all(self.graph.type(t).rank == 4 for t in activations)
        if spatial and any(self.has(t, Layout.FIRST) for t in activations):
            return Layout.FIRST
        return Layout.OURS

    def layout(self, id: TensorId) -> Layout:
        """That of the value that has the tensor's own name."""
        return Layout.FIRST if id in self.channels_first else Layout.OURS

    def _name(self, id: TensorId, layout: Layout) -> str:
        name = self._names[id]
        return name if layout is self.layout(id) else f"{name}:{_MARKS[layout]}"

    # ------------------------------------------------------------- parameters

    def is_parameter(self, id: TensorId) -> bool:
        """A constant, or a constant that was rounded to integers."""
        return self.graph.is_constant(id) or isinstance(self.graph.producer(id), QuantizedConstant)

    def parameter(self, id: TensorId, permutation: Sequence[int] | None = None) -> str:
        """A parameter with its axes permuted, and grown in front to as many as `permutation` has.

        A rounded constant is stored as integers behind a DequantizeLinear; of more than 32 bits, as
        floats.
        """
        rank = self.graph.type(id).rank
        order = tuple(range(rank)) if permutation is None else tuple(permutation)
        if (id, order) not in self._parameters:
            producer = self.graph.producer(id)
            if isinstance(producer, FakeQuantConstant):
                value = self._rounded(producer, order)
            elif isinstance(producer, IntegerConstant):
                value = self._given(producer, order)
            else:
                value = self._initializer(self._arranged_name(id, order), self._arranged(id, order))
            self._parameters[id, order] = value
        return self._parameters[id, order]

    def _rounded(self, op: FakeQuantConstant, order: tuple[int, ...]) -> str:
        grid = op.grid(*(self.graph.data(t) for t in op.inputs[1:]))
        if op.bits > 32:  # what DequantizeLinear takes
            values = grid.values(self.graph.data(op.x)).astype(np.float32)
            return self._initializer(self._arranged_name(op.id, order), _in_order(values, order))
        q = grid.integers(self.graph.data(op.x)).astype(np.int8 if op.bits <= 8 else np.int32)
        zero_points = self.dialect.zero_points(self.graph.data(op.scale), q)
        return self._dequantized(op, order, q, *zero_points)

    def _given(self, op: IntegerConstant, order: tuple[int, ...]) -> str:
        """DequantizeLinear takes a zero point of the type of x, and none of an i32."""
        q, zero_point = self.graph.data(op.x), self.graph.data(op.zero_point)
        if q.dtype == np.int32:
            return self._dequantized(op, order, q)
        return self._dequantized(op, order, q, zero_point.astype(q.dtype))

    def _dequantized(
        self, op: QuantizedConstant, order: tuple[int, ...], q: Array, *zero_point: Array
    ) -> str:
        scale = self.graph.data(op.scale).astype(np.float32)
        shape = () if scale.size == 1 else (-1,)
        name = f"{self._arranged_name(op.id, order)}:q"
        integers = self._initializer(name, _in_order(q, order))
        parameters = [self.literal(p.reshape(shape)) for p in (scale, *zero_point)]
        axis = order.index(op.axis + len(order) - q.ndim) if scale.size > 1 else 0
        return self.emit("DequantizeLinear", [integers, *parameters], axis=axis)

    def open_parameter(self, id: TensorId, field: str, layout: Layout) -> str:
        """One of the parameters of an open tensor, which broadcasts to it in the layout."""
        name = open_name(id, field)
        if layout is Layout.OURS:
            return name
        if (name, layout) not in self._open:
            self._open[name, layout] = self.emit("Transpose", [name], perm=layout.value)
        return self._open[name, layout]

    def _arranged(self, id: TensorId, order: tuple[int, ...]) -> Array:
        return _in_order(self.graph.data(id), order)

    def _arranged_name(self, id: TensorId, order: tuple[int, ...]) -> str:
        name = self._names[id]
        in_place = order == tuple(range(self.graph.type(id).rank))
        return name if in_place else f"{name}:{''.join(map(str, order))}"

    def _initializer(self, name: str, array: Array) -> str:
        self.arrays[name] = np.asarray(array, order="C")
        return name


def open_name(id: TensorId, field: str) -> str:
    """The input that a parameter of an open tensor is."""
    return f"{id}:{field}"


def _in_order(data: Array, order: Sequence[int]) -> Array:
    """Grown in front to the rank of `order`, then permuted."""
    return data.reshape((1,) * (len(order) - data.ndim) + data.shape).transpose(order)
