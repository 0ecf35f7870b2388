"""Loop and Scan, whose bodies are read once for each trip where their number is known.

What a trip takes from the one before, what it is given of its own, and what all of them make
together is the same for both operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx.helper import make_node

from qcomp.errors import ModelError
from qcomp.frontends.limits import Refused
from qcomp.frontends.onnx.context import Context
from qcomp.frontends.onnx.structure import describe
from qcomp.ir.tensor import Array

MOST_NODES = 4096  # of all trips of a model's loops
_KNOWN = "a number of trips, and a condition, that are known when it is compiled"


@dataclass(frozen=True)
class Carried:
    """`initial` outside is `before` inside of the first trip; `after` of one is `before` of the
    next, and of the last one `result` outside.
    """

    initial: str
    before: str
    after: str
    result: str


@dataclass(frozen=True)
class Along:
    """A value outside, whose slices along an axis are values of the trips; turned: from its end."""

    outside: str
    inside: str
    axis: int = 0
    turned: bool = False

    def place(self, trip: int, trips: int) -> int:
        return trips - 1 - trip if self.turned else trip


@dataclass(frozen=True)
class Loop:
    """`counter` is the number of a trip and `given` true in it; `condition` says whether another
    one follows. Each may be None.
    """

    body: onnx.GraphProto
    trips: int
    carried: tuple[Carried, ...]
    sliced: tuple[Along, ...] = ()
    stacked: tuple[Along, ...] = ()
    counter: str | None = None
    given: str | None = None
    condition: str | None = None

    def constants(self, trip: int) -> dict[str, Array]:
        """What is known of a trip, by the names inside."""
        known: dict[str, Array] = {} if self.given is None else {self.given: np.array(True)}
        return known | ({} if self.counter is None else {self.counter: np.array(trip, np.int64)})

    def slices(self, trip: int, inner: Context) -> list[onnx.NodeProto]:
        """Nodes that give a trip its slices."""
        nodes = []
        for part in self.sliced:
            place = f"{part.inside}.place"
            inner.constants[place] = np.array(part.place(trip, self.trips), np.int64)
            nodes.append(make_node("Gather", [part.outside, place], [part.inside], axis=part.axis))
        return nodes

    def follows(self, inner: Context) -> bool:
        """Whether there is a trip behind this one; Refused where an input decides that."""
        if self.condition is None:
            return True
        known = inner.constants.get(self.condition)
        if known is None:
            raise Refused("its condition depends on an input", _KNOWN)
        return bool(known.reshape(-1)[0])


def loop_of(context: Context, proto: onnx.NodeProto) -> Loop:
    """What a node is; Refused for trips that are not known, ModelError for a broken one."""
    return _scan(context, proto) if proto.op_type == "Scan" else _loop(context, proto)


def stack(part: Along, names: Sequence[str], context: Context) -> list[onnx.NodeProto]:
    """Nodes that make one value outside of those of all trips, along a new axis."""
    shape = context.shape(names[0])
    axis = part.axis if part.axis >= 0 else part.axis + len(shape) + 1
    if not 0 <= axis <= len(shape):
        raise Refused(f"axis {part.axis} of rank {len(shape) + 1}")
    grown, key = [f"{name}.grown" for name in names], f"{part.outside}.grown"
    context.constants[key] = np.array([*shape[:axis], 1, *shape[axis:]], np.int64)
    context.used.update((*names, *grown, key))
    nodes = [make_node("Reshape", [n, key], [g]) for n, g in zip(names, grown, strict=True)]
    order = grown[::-1] if part.turned else grown
    return [*nodes, make_node("Concat", order, [part.outside], axis=axis)]


def _loop(context: Context, proto: onnx.NodeProto) -> Loop:
    """Inputs: most trips, condition, carried values; outputs: these, and what trips stack up."""
    body = _body(proto)
    most, first = (*proto.input, "", "")[:2]
    initial, results = list(proto.input[2:]), list(proto.output)
    inside, made = [i.name for i in body.input], [o.name for o in body.output]
    count = len(initial)
    if len(inside) != count + 2 or len(made) != len(results) + 1 or len(results) < count:
        raise _broken(proto, body)
    if not most:
        raise Refused("it has no number of trips", _KNOWN)
    trips = _known(context, most, "its number of trips depends on an input")
    if first and not _known(context, first, "its condition depends on an input"):
        trips = 0
    return Loop(
        body,
        max(trips, 0),
        _carried(initial, inside[2:], made[1:], results),
        stacked=tuple(map(Along, results[count:], made[1 + count :])),
        counter=inside[0],
        given=inside[1],
        condition=made[0],
    )


def _scan(context: Context, proto: onnx.NodeProto) -> Loop:
    """Inputs: carried values, and those that are gone through; outputs: carried, and stacked."""
    if context.opset < 9:
        raise Refused("Scan of opset 8, over batches", "Scan from opset 9 on")
    body = _body(proto)
    attributes = {a.name: a for a in proto.attribute}
    sliced = int(attributes["num_scan_inputs"].i) if "num_scan_inputs" in attributes else 0
    count = len(proto.input) - sliced
    inside, made = [i.name for i in body.input], [o.name for o in body.output]
    results = list(proto.output)
    if (
        sliced < 1
        or count < 0
        or len(inside) != len(proto.input)
        or len(made) != len(results)
        or len(results) < count
    ):
        raise _broken(proto, body)
    ways = {name: list(a.ints) for name, a in attributes.items()}
    taken = _along(proto.input[count:], inside[count:], ways, "input", proto)
    lengths = {_extent(context, part) for part in taken}
    if len(lengths) != 1:
        raise Refused(f"inputs of {sorted(lengths)} slices", "the same number of each")
    return Loop(
        body,
        lengths.pop(),
        _carried(list(proto.input[:count]), inside, made, results),
        sliced=taken,
        stacked=_along(results[count:], made[count:], ways, "output", proto),
    )


def _along(
    outside: Sequence[str],
    inside: Sequence[str],
    ways: Mapping[str, list[int]],
    kind: str,
    proto: onnx.NodeProto,
) -> tuple[Along, ...]:
    zeros = [0] * len(outside)
    axes = ways.get(f"scan_{kind}_axes") or zeros
    turned = ways.get(f"scan_{kind}_directions") or zeros
    if len(axes) != len(outside) or len(turned) != len(outside):
        raise ModelError(f"{describe(proto)}: {len(axes)} axes for {len(outside)} scan {kind}s")
    return tuple(map(Along, outside, inside, axes, map(bool, turned)))


def _extent(context: Context, part: Along) -> int:
    shape = context.shape(part.outside)
    if not -len(shape) <= part.axis < len(shape):
        raise Refused(f"axis {part.axis} of rank {len(shape)}")
    return shape[part.axis]


def _carried(
    initial: Sequence[str], before: Sequence[str], after: Sequence[str], results: Sequence[str]
) -> tuple[Carried, ...]:
    return tuple(map(Carried, initial, before, after, results))


def _known(context: Context, name: str, reason: str) -> int:
    known = context.constants.get(name)
    if known is None:
        raise Refused(reason, _KNOWN)
    if known.size != 1:
        raise Refused(f"{name!r} has {known.size} elements", "one")
    return int(known.reshape(-1)[0])


def _body(proto: onnx.NodeProto) -> onnx.GraphProto:
    found: list[onnx.GraphProto] = [
        a.g for a in proto.attribute if a.type == onnx.AttributeProto.GRAPH
    ]
    if len(found) != 1:
        raise ModelError(f"{describe(proto)}: {len(found)} bodies; expected one")
    return found[0]


def _broken(proto: onnx.NodeProto, body: onnx.GraphProto) -> ModelError:
    return ModelError(
        f"{describe(proto)}: {len(proto.input)} inputs and {len(proto.output)} outputs do not fit "
        f"a body of {len(body.input)} and {len(body.output)}"
    )
