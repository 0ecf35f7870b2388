"""Times by layer: every op that has code, once, and figures that fit together."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from compiled_once import CompiledOnce
from numpy.testing import assert_array_equal

import qcomp
from qcomp.quant.fixed_point import Form
from qcomp.runtime.profile import LayerReport, bench_layers
from qcomp.runtime.vectors import random_inputs
from qcomp.targets.cpu.lower.graph import lower_graph
from qcomp.targets.cpu.measure.peaks import Peaks
from qcomp.targets.cpu.measure.timing import TimedProgram
from qcomp.targets.cpu.process.host import native
from qcomp.targets.cpu.process.jit import aligned_arena


@pytest.fixture(scope="module", params=["mobilenet_v2", "transformer", "detector"])
def saved(request: pytest.FixtureRequest, compiled_once: CompiledOnce) -> Path:
    return compiled_once(request.param)


@pytest.fixture(scope="module")
def report(saved: Path) -> LayerReport:
    return bench_layers(saved, seconds=0.05)


def test_the_layers_are_the_ops_that_have_code(saved: Path, report: LayerReport) -> None:
    net = qcomp.load(saved)
    calls = lower_graph(net.graph, native(), "net").calls
    assert [layer.id for layer in report.layers] == list(dict.fromkeys(c.op for c in calls))
    assert report.isa == native().name


def test_the_figures_fit_together(report: LayerReport) -> None:
    assert report.sum_us == pytest.approx(math.fsum(layer.us for layer in report.layers))
    for layer in report.layers:
        assert layer.us > 0
        assert layer.bytes > 0
        assert layer.gb_per_s == pytest.approx(1e-3 * layer.bytes / layer.us)
        assert layer.bound_share == pytest.approx(max(layer.bounds.values()) / layer.us)
        assert layer.bounds[layer.bound] == max(layer.bounds.values())
        assert (layer.gops is None) == (layer.kind.split()[0] not in MULTIPLIES), layer
        if layer.gops is not None and layer.peak_share is not None:
            assert layer.bounds["arithmetic"] == pytest.approx(layer.peak_share * layer.us)


MULTIPLIES = ("q_attention", "q_conv2d", "q_dense", "q_matmul")


def test_the_timed_program_gives_the_bits_of_the_specification(saved: Path) -> None:
    net = qcomp.load(saved)
    program = lower_graph(net.graph, native(), net.name)
    timed = TimedProgram(program)
    random = np.random.default_rng(3)
    inputs = {i.name: random_inputs(i, random) for i in net.inputs}
    outputs = {o.name: np.empty(o.shape, o.dtype) for o in net.outputs}
    arena = aligned_arena(program.memory.arena_bytes)
    clock = timed.run([*inputs.values(), *outputs.values(), arena])
    assert len(clock) == len(program.calls) + 1
    assert (np.diff(clock) >= 0).all()
    for name, expected in net.specification_integer(inputs).items():
        assert_array_equal(outputs[name], expected)


@pytest.mark.usefixtures("cc")
def test_layers_on_two_threads(saved: Path) -> None:
    assert bench_layers(saved, seconds=0.02, threads=2).network.threads == 2


def test_code_that_this_machine_lacks_is_an_error(saved: Path) -> None:
    net = qcomp.load(saved)
    requires = dataclasses.replace(net.artifact.requires, features={"elsewhere": ("telepathy",)})
    net.artifact = dataclasses.replace(net.artifact, requires=requires)
    with pytest.raises(qcomp.TargetError, match="elsewhere needs telepathy, which this machine"):
        net.profile()


def test_peaks_are_rates() -> None:
    peaks = Peaks(native())
    assert peaks.macs_per_ns > 0
    assert peaks.macs_per_ns == peaks.macs_per_ns  # measured once
    assert min(peaks.results_per_ns(form) for form in (Form.NARROW, Form.WIDE)) > 0
    assert min(peaks.bytes_per_ns(size) for size in (1, 1 << 20)) > 0
