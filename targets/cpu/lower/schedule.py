"""From the layers' calls to a program's: which layers run as chains, and the calls of these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from qcomp.ir.ops import Op
from qcomp.ir.tensor import TensorId
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I8, Value
from qcomp.targets.cpu.emit.nest import Nest, copy_body, emit_nest, nest_units
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.emit.words import word
from qcomp.targets.cpu.lower.chain import Band, Stage, Step, Window, plan_band
from qcomp.targets.cpu.lower.context import Lowering, Place
from qcomp.targets.cpu.lower.places import Border
from qcomp.targets.cpu.memory import Layout, dense_layout
from qcomp.targets.cpu.program import Address, Arena, Call, moved


@dataclass(frozen=True)
class Chaining:
    """What becomes a chain: tensors of `far` bytes and more do not stay in the near caches.

    Each of `bands` takes as few steps, at most `steps`, as make its windows smaller than `near`.
    As measured with 1 MB of second-level cache: more bands cost what they compute twice, more steps
    cost calls and copies.
    """

    far: int = 256 << 10
    near: int = 192 << 10
    bands: int = 2
    steps: int = 8


CHAINING = Chaining()


@dataclass(frozen=True)
class Layer:
    """An op with what it was lowered to; `result` is the tensor that its last kernel writes."""

    op: Op
    step: int
    result: TensorId
    calls: Sequence[Call]


@dataclass
class Schedule:
    """What chains change: the first and last step of ops in one, and the buffers of windows."""

    spans: dict[int, tuple[int, int]] = field(default_factory=dict)
    windows: dict[TensorId, dict[str, int]] = field(default_factory=dict)

    def span(self, step: int) -> tuple[int, int]:
        return self.spans.get(step, (step, step))


def schedule(
    lowering: Lowering,
    layers: Sequence[Layer],
    borders: dict[str, Border],
    chaining: Chaining = CHAINING,
) -> Schedule:
    """Append the calls of all layers to those of the lowering, each buffer's border first."""
    found = Schedule()
    for run in _runs(lowering, layers, chaining.far):
        stages = [Stage(layer.calls[0], lowering.place(layer.result)) for layer in run[:-1]]
        bands: list[Band] = []
        if stages:
            stages.append(Stage(run[-1].calls[0], lowering.place(run[-1].result)))
            bands = _bands(stages, chaining)
        for layer in run[-1:] if bands else run:
            lowering.current = layer.op.id
            fill_border(lowering, lowering.place(layer.result), borders)
            lowering.calls += () if bands else layer.calls
        if bands:
            _record(found, run, bands)
            edges = [borders.pop(layer.result, None) for layer in run[:-1]]
            for k, band in enumerate(bands):
                lowering.calls += _emit(lowering, stages, edges, band, k)
    return found


def _record(found: Schedule, run: Sequence[Layer], bands: Sequence[Band]) -> None:
    for layer in run:
        found.spans[layer.step] = run[0].step, run[-1].step
    for n, layer in enumerate(run[:-1]):
        windows = {_buffer(layer.result, k): band.window_bytes(n) for k, band in enumerate(bands)}
        found.windows |= {layer.op.id: windows, layer.result: windows}


def _buffer(tensor: TensorId, band: int) -> str:
    return f"{tensor} in band {band}"


def fill_border(lowering: Lowering, place: Place, borders: dict[str, Border]) -> None:
    """Once per buffer, before anything is written to it."""
    if isinstance(place.base, Arena) and place.base.buffer in borders:
        border = borders.pop(place.base.buffer)
        lowering.fill_border(border.place, border.value)


def _runs(lowering: Lowering, layers: Sequence[Layer], far: int) -> Iterator[list[Layer]]:
    """Neighbours between which a large tensor lies that nobody else reads."""
    run: list[Layer] = []
    for layer in layers:
        if run and not _continues(lowering, run[-1], layer, far):
            yield run
            run = []
        run.append(layer)
    if run:
        yield run


def _continues(lowering: Lowering, before: Layer, layer: Layer, far: int) -> bool:
    graph = lowering.graph
    type, base = graph.type(before.result), lowering.place(before.result).base
    return (
        _is_stage(before)
        and _is_stage(layer)
        and graph.sole_consumer(before.result) is layer.op
        and layer.op.inputs[0] == before.result
        and isinstance(base, Arena)
        and base.buffer == before.result
        and type.rank == 4
        and type.shape[0] == 1
        and type.bytes >= far
    )


def _is_stage(layer: Layer) -> bool:
    return len(layer.calls) == 1 and layer.calls[0].reach is not None


def _bands(stages: Sequence[Stage], chaining: Chaining) -> list[Band]:
    """None where the windows would be half as large as the tensors, or larger."""
    units = stages[-1].call.units
    count = min(chaining.bands, units)
    ends = [units * k // count for k in range(count + 1)]
    best: list[Band] = []
    least = sum(stage.place.layout.bytes for stage in stages[:-1]) // 2
    for steps in range(1, 1 + min(chaining.steps, units // count)):
        bands = [plan_band(stages, *span, steps) for span in pairwise(ends)]
        size = sum(band.bytes for band in bands)
        if size < least:
            best, least = bands, size
        if best and least <= count * chaining.near:
            break
    return best


def _emit(
    lowering: Lowering, stages: Sequence[Stage], edges: Sequence[Border | None], band: Band, k: int
) -> list[Call]:
    """The calls of all steps of a band, each after those that prepare its windows."""
    before, lowering.calls = lowering.calls, []
    bases = [_base(stage, k) for stage in stages[:-1]]
    starts = [window.start for window in band.steps[0].windows]
    for n, (base, edge) in enumerate(zip(bases, edges, strict=True)):
        if edge is not None:
            lowering.current = stages[n].call.op
            layout = _first(edge.place.layout, starts[n], band.window_bytes(n))
            lowering.fill_border(Place(base, layout), edge.value)
    for step in band.steps:
        for n, window in enumerate(step.windows):
            lowering.current, edge = stages[n].call.op, edges[n]
            distance, count = window.start - starts[n], window.kept - window.start
            if distance and count > 0:
                _keep(lowering, bases[n], distance, count)
            if edge is not None:
                _fill_below(lowering, Place(bases[n], edge.place.layout), edge.value, window)
        starts = [window.start for window in step.windows]
        lowering.calls += _parts(stages, bases, step)
    calls = [replace(call, band=k) for call in lowering.calls]
    lowering.calls = before
    return calls


def _base(stage: Stage, k: int) -> Arena:
    """The windows of a band are buffers of their own."""
    base = stage.place.base
    assert isinstance(base, Arena)
    return replace(base, buffer=_buffer(base.buffer, k))


def _first(layout: Layout, start: int, size: int) -> Layout:
    """Of the first window of a tensor with a border: perhaps open above, open below.

    It may end before the image begins, where a kernel of one row reads the padding first.
    """
    row = layout.strides[1]
    above, left = divmod(layout.offset, row)
    above = min(max(0, above - start // row), size // row)
    return replace(
        layout,
        shape=(1, size // row - above, *layout.shape[2:]),
        strides=(size, *layout.strides[1:]),
        offset=above * row + left,
        bytes=size,
    )


def _fill_below(lowering: Lowering, whole: Place, value: int, window: Window) -> None:
    """The rows below the image that come into the window."""
    layout = whole.layout
    row = layout.strides[1]
    first = max(window.kept, (layout.offset // row + layout.shape[1]) * row)
    if first < window.end:
        count = (window.end - first,)
        lowering.fill(Place(whole.base, dense_layout(count)), value, count, first - window.start)


def _keep(lowering: Lowering, base: Address, distance: int, count: int) -> None:
    """Copy bytes down to the start of a buffer."""
    nest, width = Nest((count,), ((1,), (1,)), (1, 1)), 4 * lowering.isa.lanes

    def emit(b: ir.IRBuilder, pointers: Sequence[Value]) -> None:
        every = Span(word(b, 0), word(b, nest_units(nest, width)))
        emit_nest(b, nest, pointers, [I8, I8], copy_body, width, every)

    lowering.call("keep", count, [moved(base, distance), base], emit)


def _parts(stages: Sequence[Stage], bases: Sequence[Arena], step: Step) -> list[Call]:
    """The layers' calls for one step; the pointers are to where whole buffers would begin."""
    calls = []
    for n, (stage, first, end) in enumerate(zip(stages, step.before, step.now, strict=True)):
        src, dst, *rest = stage.call.arguments
        if n > 0:
            src = moved(bases[n - 1], src.offset - step.windows[n - 1].start)
        if n < len(bases):
            dst = moved(bases[n], dst.offset - step.windows[n].start)
        if first < end:
            arguments = (src, dst, *rest)
            calls.append(replace(stage.call, arguments=arguments, units=end - first, first=first))
    return calls
