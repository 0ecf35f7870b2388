"""Seven faults, planted in a network, and the command that names each as the first cause.

    python tests/support/planted_faults.py MODEL CALIBRATION DATA

plants them in a network of images and prints a table: what was planted where, and what was said of
it. DATA is an .npz with labels, as `qcomp evaluate` takes it.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

import qcomp
from qcomp.debug.bisect import bisect
from qcomp.debug.bisection import Bisection
from qcomp.debug.compare import Comparison, compare_dump
from qcomp.debug.difference import between
from qcomp.debug.dump import record
from qcomp.ir.graph import Graph
from qcomp.ir.ops import QConv2d, QWeighted
from qcomp.ir.tensor import TensorId, constant
from qcomp.passes import equalize_cross_layer
from qcomp.quant.fixed_point import Form
from qcomp.runtime.network import CompiledNetwork
from qcomp.targets.cpu.emit import requantize
from qcomp.targets.cpu.lower import graph as lowering
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.process.host import this_host
from qcomp.targets.cpu.process.jit import load_objects
from qcomp.targets.cpu.target import CpuTarget

Inputs = Mapping[str, NDArray[Any]]
RIGHT = qcomp.QuantizationConfig(recipe="fast", equalize=True)


def device_dump(code: Graph, isa: Isa, runs: Sequence[Inputs]) -> bytes:
    """What a tap writes of runs of a graph's code."""
    artifact = CpuTarget("device", (isa,)).tapped().emit(code, "device")
    types = [code.type(t) for t in code.outputs.values()]
    entry = load_objects(artifact.files.values(), "device", len(code.inputs) + len(types) + 1)
    told: list[bytes] = []
    for run in runs:
        entry.run_tapped(
            [np.ascontiguousarray(run[name]) for name in code.inputs],
            [np.empty(type.shape, type.dtype.numpy) for type in types],
            artifact.memory.allocated(),
            lambda number, data: told.append(record(number, data)),
        )
    return b"".join(told)


def compared(net: CompiledNetwork, content: bytes) -> Comparison:
    """What `qcomp compare` says of a dump."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dump"
        path.write_bytes(content)
        return compare_dump(net, path)


# ------------------------------------------------------------------------ faults


def with_flipped_weight(graph: Graph, id: TensorId, place: tuple[int, ...]) -> Graph:
    """A bit of one weight of a layer."""
    code, op = graph.clone(), graph.op(id)
    assert isinstance(op, QWeighted)
    weights = code.data(op.weight).copy()
    weights[place] ^= 64
    code.update_tensor(constant(op.weight, weights, code.tensor(op.weight).origin))
    return code


def with_other_zero_point(graph: Graph, id: TensorId, off: int) -> Graph:
    """A layer adds another one, and those that read it take that as right."""
    code, op, tensor = graph.clone(), graph.op(id), graph.tensor(id)
    assert tensor.qparams is not None
    wrong = tensor.qparams.zero_point + off
    if isinstance(op, QWeighted):
        other = dataclasses.replace(
            op, requantize=dataclasses.replace(op.requantize, zero_point=wrong)
        )
    else:
        other = dataclasses.replace(op, zero_point=wrong)  # type: ignore[call-arg]
    code.replace_op(other, qparams=dataclasses.replace(tensor.qparams, zero_point=wrong))
    for reader in code.consumers(id):
        code.replace_op(dataclasses.replace(reader, x_zero_point=wrong))  # type: ignore[call-arg]
    return code


@contextmanager
def truncating_kernel(id: TensorId) -> Iterator[None]:
    """The portable kernel that an op is the first to use truncates, where it should round."""
    lowering_of, narrow, splat = lowering.lowering_of, requantize._narrow, requantize.splat

    def without_half(type: Any, lanes: int, n: int) -> Any:
        return splat(type, lanes, 0 if n == 1 << 14 else n)

    def truncated(*operands: Any) -> Any:
        with mock.patch.object(requantize, "splat", without_half):
            return narrow(*operands)

    def wrong(graph: Graph, op: Any) -> Any:
        lower = lowering_of(graph, op)

        def lower_wrongly(state: Any, op: Any) -> None:
            with mock.patch.object(requantize, "_narrow", truncated):
                lower(state, op)

        return lower_wrongly if op.id == id else lower

    with mock.patch.object(lowering, "lowering_of", wrong):
        yield


# ------------------------------------------------------------------------- table


@dataclasses.dataclass(frozen=True)
class Row:
    """A planted fault, where it was planted, and what was said of it."""

    fault: str
    where: str
    command: str
    said: str
    named: bool


def portable() -> Isa:
    """The least instruction set of this machine."""
    return next(iter(this_host().runs()))


def device_faults(net: CompiledNetwork, runs: Sequence[Inputs]) -> Iterator[Row]:
    """Those of a device's code; `runs` are integers."""
    graph, isa = net.graph, portable()
    ids = [op.output for op in graph.ops() if isinstance(op, QConv2d)]
    middle = ids[len(ids) // 2]
    linear = linear_layer(graph)
    found = compared(net, device_dump(with_other_zero_point(graph, linear, 2), isa, runs))
    yield _of_device("a wrong zero point", linear, found)
    flipped = with_flipped_weight(graph, middle, (3, 0, 0, 0))
    yield _of_device("a flipped weight", middle, compared(net, device_dump(flipped, isa, runs)))
    for id in ids[len(ids) // 2 :]:  # until one that does not share the kernel of one before it
        with truncating_kernel(id):
            found = compared(net, device_dump(graph, isa, runs))
        if not found.exact:
            break
    yield _of_device("a wrong rounding in one kernel", id, found)


def linear_layer(graph: Graph) -> TensorId:
    """The first without a ReLU."""
    ids = [op.output for op in graph.ops() if isinstance(op, QConv2d)]
    return next(id for id in ids if _is_linear(graph, id))


def _is_linear(graph: Graph, id: TensorId) -> bool:
    """A layer without a ReLU, which only convolutions read."""
    op, q = graph.op(id), graph.tensor(id).qparams
    assert isinstance(op, QConv2d)
    assert q is not None
    readers = graph.consumers(id)
    return (
        op.requantize.form is Form.NARROW
        and q.qmin + 2 < q.zero_point < q.qmax - 2
        and not graph.is_output(id)
        and all(isinstance(reader, QConv2d) for reader in readers)
    )


def _of_device(fault: str, where: TensorId, found: Comparison) -> Row:
    first = found.first
    said = "nothing" if first is None else f"%{first.tensor}: {first.pattern}"
    named = first is not None and first.tensor == where
    return Row(fault, f"%{where}", "compare --device-dump", said, named)


def planted_in_choices(
    model: Any, calibration: Any, data: Any, layer: TensorId, **options: Any
) -> Iterator[Row]:
    """A clipped range, layers that are not equalized, data in another scale and order.

    `layer` is the activation whose range is clipped; `calibration` and `data` are as the network
    wants them: arrays in -1 to 1, and a pair of arrays and labels.
    """
    images, labels = data
    shared: dict[str, Any] = {"metric": "top1", "labels": labels, **options}
    config = dataclasses.replace(RIGHT, overrides={layer: {"range": (-0.05, 0.05)}})
    found = bisect(model, calibration=calibration, data=images, config=config, **shared)
    yield _of_bisection("a clipped range", layer, found, f"override {layer}")

    config = dataclasses.replace(RIGHT, per_channel=False, equalize=False)
    found = bisect(model, "sqnr", calibration=calibration, config=config, **options)
    yield _of_bisection("un-equalized layers", "equalize=False", found, "equalize", "per_channel")

    bytes_ = [(x + 1) * np.float32(127.5) for x in calibration]
    found = bisect(model, calibration=bytes_, data=images, config=RIGHT, **shared)
    yield _of_bisection("calibration data in 0..255", "", found, "calibration: inputs / 127.5 - 1")

    turned = [np.ascontiguousarray(x[..., ::-1, :, :]) for x in images]
    found = bisect(model, calibration=calibration, data=turned, config=RIGHT, **shared)
    yield _of_bisection("channels as BGR", "", found, "data: channels reversed")


def _of_bisection(fault: str, where: str, found: Bisection, *right: str) -> Row:
    named = bool(found.causes) and found.causes[0] in right
    return Row(fault, where, f"bisect --metric {found.metric}", found.verdict, named)


@contextmanager
def not_equalized(id: TensorId) -> Iterator[None]:
    """Cross-layer equalization leaves the channels of one layer as they are."""
    fitting = equalize_cross_layer._fitting

    def without(graph: Graph, classes: Any, *others: Any) -> Any:
        factors = fitting(graph, classes, *others).copy()
        factors[classes.of[id]] = 1.0
        return factors

    with mock.patch.object(equalize_cross_layer, "_fitting", without):
        yield


def unequal_layer(model: Any, calibration: Any) -> Row:
    """A layer that only one of two compilations equalizes."""
    config = dataclasses.replace(RIGHT, per_channel=False)
    right = qcomp.compile(model, calibration=calibration, config=config)
    layer = _equalized_layer(right.graph).removesuffix(".q")
    with not_equalized(layer):
        wrong = qcomp.compile(model, calibration=calibration, config=config)
    found = between(right, wrong)
    said = [c for c in found.tensors if c.what.startswith("equalized")]
    named = found.first is not None and found.first.where == said[0].where == f"{layer}.q"
    return Row("an un-equalized layer", f"%{layer}", "diff", str(said[0]), named)


def _equalized_layer(graph: Graph) -> TensorId:
    """One that only layers read, as sums share their factors; of these the middle one."""
    found = []
    for op in graph.ops():
        origin = graph.tensor(op.output).origin
        if isinstance(op, QConv2d) and op.groups == 1 and origin is not None:
            readers = graph.consumers(op.output)
            is_scaled = origin.scale is not None and bool((origin.scale != 1.0).any())
            if is_scaled and all(isinstance(r, QConv2d) for r in readers):
                found.append(op.output)
    return found[len(found) // 2]


def main(model: str, calibration: str, data: str) -> None:
    """The table of a network in ONNX."""
    with np.load(calibration) as arrays:
        (samples,) = (arrays[name] for name in arrays.files)
    with np.load(data) as arrays:
        labels = arrays["labels"].tolist()
        (images,) = (arrays[name] for name in arrays.files if name != "labels")
    singles, measured = [x[None] for x in samples], [x[None] for x in images]
    _print(unequal_layer(model, singles))
    net = qcomp.compile(model, calibration=singles, config=RIGHT)
    for row in device_faults(net, [net.quantized({net.inputs[0].name: singles[0]})]):
        _print(row)
    layer = linear_layer(net.graph).removesuffix(".q")
    for row in planted_in_choices(model, singles, (measured, labels), layer):
        _print(row)


def _print(row: Row) -> None:
    print(f"{'named' if row.named else 'MISSED'} | {row.fault} | {row.where} | {row.command}")
    print(f"      {row.said}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
