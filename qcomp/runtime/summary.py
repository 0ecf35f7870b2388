"""A compiled network for people: in a line, in a few lines, and as a card for notebooks."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol

from qcomp.accuracy.record import Accuracy
from qcomp.findings.record import Finding, told
from qcomp.ir.graph import Graph
from qcomp.runtime.interface import TensorInfo
from qcomp.targets.base import Artifact

_BAR, _TALLEST = 3, 32  # pixels of the thumbnail


class Network(Protocol):
    """What is told of."""

    @property
    def name(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def isa(self) -> tuple[str, ...]: ...
    @property
    def artifact(self) -> Artifact: ...
    @property
    def graph(self) -> Graph: ...
    @property
    def inputs(self) -> Sequence[TensorInfo]: ...
    @property
    def outputs(self) -> Sequence[TensorInfo]: ...
    @property
    def accuracy(self) -> Accuracy | None: ...
    @property
    def shorter(self) -> Sequence[Network]: ...
    @property
    def findings(self) -> Sequence[Finding]: ...
    @property
    def notes(self) -> Sequence[str]: ...


def one_line(net: Network) -> str:
    """The `repr`."""
    inputs, outputs = (", ".join(map(_type, infos)) for infos in (net.inputs, net.outputs))
    ratio = net.accuracy and net.accuracy.sqnr_db
    told_ = "" if ratio is None else f", {ratio:.1f} dB"
    weights = f"{net.artifact.memory.weights:,} bytes of weights"
    return f"<qcomp {net.name} for {net.target}: {inputs} -> {outputs}, {weights}{told_}>"


def summary(net: Network) -> str:
    """Sizes, inputs and outputs, accuracy, ops, notes and findings."""
    ops = ", ".join(f"{count} {name}" for name, count in _ops(net.graph).most_common())
    lines = [
        f"{net.name} for {net.target} ({', '.join(net.isa)})",
        *sizes(net),
        *tensors(net),
        *accuracy(net),
        f"  ops      {ops}",
        *(f"  note: {note}" for note in net.notes),
        *(f"  finding: {finding}" for finding in told(net.findings)),
    ]
    return "\n".join(lines)


def sizes(net: Network) -> list[str]:
    """Lines of bytes."""
    memory = net.artifact.memory
    return [
        f"  arena    {memory.arena:>12,} bytes, {memory.live:,} live at once",
        f"  weights  {memory.weights:>12,} bytes",
    ]


def tensors(net: Network) -> list[str]:
    """Lines of inputs and outputs."""
    inputs = [_tensor_line("input", info) for info in net.inputs]
    return inputs + [_tensor_line("output", info) for info in net.outputs]


def accuracy(net: Network) -> list[str]:
    """Lines of each part of outputs, and of what they were compared on."""
    if net.accuracy is None:
        return []
    lines = [f"  sqnr     {part}" for part in net.accuracy.parts]
    lines += [f"           against float, on {_compared_on(net.accuracy)}"]
    if net.accuracy.steps:
        lines += [f"  steps    {', '.join(map(str, net.accuracy.steps))}"]
    for plan, length in zip(net.shorter, net.artifact.lengths[1:], strict=True):
        parts = () if plan.accuracy is None else plan.accuracy.parts
        lines += [f"  at {length:<6}{part}" for part in parts]
    return lines


def card(net: Network, us: float | None) -> str:
    """HTML of a few lines, with a bar for each op of the graph as high as its result is large.

    us: microseconds of a run on this machine; None: it does not run here.
    """
    rows = {
        "target": f"{net.target} ({', '.join(net.isa)})",
        "inputs": ", ".join(map(_type, net.inputs)),
        "outputs": ", ".join(map(_type, net.outputs)),
        "weights": f"{net.artifact.memory.weights:,} bytes",
        "arena": f"{net.artifact.memory.arena:,} bytes",
    }
    if net.accuracy is not None:
        worst = net.accuracy.worst
        ratio = "nothing to compare" if worst is None else f"{worst.sqnr_db:.1f} dB at worst"
        rows["accuracy"] = f"{ratio}, on {_compared_on(net.accuracy)}"
        if net.accuracy.steps:
            rows["by step"] = ", ".join(map(str, net.accuracy.steps))
    worst_of = [plan.accuracy and plan.accuracy.worst for plan in (net, *net.shorter)]
    if net.artifact.lengths:
        rows["by length"] = ", ".join(
            f"{length}: {'not measured' if worst is None else f'{worst.sqnr_db:.1f} dB'}"
            for length, worst in zip(net.artifact.lengths, worst_of, strict=True)
        )
    if us is not None:
        rows["speed"] = f"{_duration(us)} a run on this machine, the fastest of a few"
    if net.findings:
        rows["findings"] = " | ".join(told(net.findings))
    cells = "".join(
        f"<tr><th style='text-align:left'>{name}</th>"
        f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
        for name, text in rows.items()
    )
    title = f"<b>{html.escape(net.name)}</b>"
    return f"<div>{title}{_thumbnail(net.graph)}<table>{cells}</table></div>"


def _duration(us: float) -> str:
    return f"{us:.3g} us" if us < 1e3 else f"{us / 1e3:.3g} ms" if us < 1e6 else f"{us / 1e6:.3g} s"


def _thumbnail(graph: Graph) -> str:
    """At most 200 bars; logarithmic."""
    sizes = [graph.type(op.output).bytes for op in graph.ops()]
    step = max(1, -(-len(sizes) // 200))
    heights = [_height(max(sizes[i : i + step])) for i in range(0, len(sizes), step)]
    bars = "".join(
        f"<rect x='{_BAR * i}' y='{_TALLEST - h}' width='{_BAR - 1}' height='{h}'/>"
        for i, h in enumerate(heights)
    )
    size = f"width='{_BAR * len(heights)}' height='{_TALLEST}'"
    return f"<svg {size} style='display:block' fill='#4a7'>{bars}</svg>"


def _height(size: int) -> int:
    return max(1, min(_TALLEST, round(1.5 * math.log2(size + 1))))


def _ops(graph: Graph) -> Counter[str]:
    return Counter(_mnemonics(graph))


def _mnemonics(graph: Graph) -> Iterator[str]:
    for op in graph.ops():
        yield op.mnemonic


def _type(info: TensorInfo) -> str:
    return f"{info.name} {info.dtype}[{', '.join(map(str, info.shape))}]"


def _tensor_line(kind: str, info: TensorInfo) -> str:
    shape = "x".join(map(str, info.shape))
    return (
        f"  {kind:<8} {info.name}: {info.dtype} {shape}, "
        f"scale {info.scale:.8g}, zero point {info.zero_point}{_covered(info)}"
        f"{'' if info.conversion is None else ', after a conversion that the header has'}"
        f"{'' if info.tail is None else f', {info.tail.function.value} in floats behind it'}"
    )


def _covered(info: TensorInfo) -> str:
    """The real numbers that its integers hold, before a conversion where there is one."""
    if not info.is_quantized:
        return ""
    low, high = ((limit - info.zero_point) * info.scale for limit in info.limits)
    return f": {low:.4g} to {high:.4g}"


def _compared_on(accuracy: Accuracy) -> str:
    if accuracy.held_back:
        return f"{accuracy.samples} samples that calibration left out"
    return f"{accuracy.samples} calibration samples; `qcomp evaluate` tells of others"
