"""Calibration data that is not what a network takes is told from data that is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from recurrent_models import Layer

from qcomp.calibration.samples import Run, samples_of
from qcomp.findings.find import of_data
from qcomp.findings.first_layer import first_layer
from qcomp.findings.inputs import few_samples, labels, layout
from qcomp.findings.record import Finding, Kind
from qcomp.frontends.onnx import import_onnx
from qcomp.ir.graph import Graph
from qcomp.ir.parse import parse

F32 = NDArray[np.float32]
RANDOM = np.random.default_rng(7)


def runs(values: NDArray[np.generic]) -> list[Run]:
    return [{"x": sample.astype(np.float32)} for sample in values]


def photographs(count: int, height: int = 24, width: int = 32) -> F32:
    """Smooth, with colours that differ: [N, 1, 3, H, W], 0 to 255."""
    down, across = np.linspace(0, 3, height)[:, None], np.linspace(0, 4, width)
    phases = RANDOM.uniform(0, 6, (count, 1, 3, 1, 1))
    noise = RANDOM.uniform(0, 8, (count, 1, 3, height, width))
    return np.asarray(120 * (1 + np.sin(down + across + phases)) + noise, np.float32)


CLASSES = RANDOM.integers(0, 10, (20, 1, 1))
ONE_HOT = np.eye(10)[CLASSES[:, 0, 0]].reshape(20, 1, 10)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (CLASSES, "every value is a whole number from 0 to 9, as labels are"),
        (ONE_HOT, "every sample has a single 1 among 9 zeros, as labels have"),
        (RANDOM.integers(0, 256, (20, 1, 3, 8, 8)), ""),  # an image of whole numbers
        (RANDOM.integers(0, 2, (20, 1, 28)), ""),  # a black and white one
        (RANDOM.standard_normal((20, 1, 1)), ""),
        (CLASSES[:4], ""),  # too few to tell
        (np.zeros((20, 1, 1)), ""),
    ],
)
def test_labels_are_told_from_inputs(values: NDArray[np.generic], found: str) -> None:
    assert [f.text for f in labels(runs(values))] == ([found] if found else [])


def test_an_image_of_the_other_layout_is_told_by_its_roughness() -> None:
    images = photographs(4)
    pixels_first = np.ascontiguousarray(images.transpose(0, 1, 3, 4, 2))
    (finding,) = layout(runs(pixels_first.reshape(images.shape)))
    assert "times as rough if they are read as NHWC" in finding.text
    assert finding.number < 0.6
    (finding,) = layout(runs(images.reshape(pixels_first.shape)))
    assert "read as NCHW" in finding.text


@pytest.mark.parametrize(
    "values",
    [
        photographs(4),
        photographs(4).transpose(0, 1, 3, 4, 2),
        np.repeat(photographs(4)[:, :, :1], 3, axis=2),  # grey
        RANDOM.standard_normal((8, 1, 3, 16, 16)),
        RANDOM.standard_normal((8, 1, 3, 3, 3)),
        RANDOM.standard_normal((8, 1, 3, 1, 16)),
        np.zeros((8, 1, 3, 16, 16)),
        RANDOM.standard_normal((8, 1, 40)),
    ],
    ids=["NCHW", "NHWC", "grey", "noise", "ambiguous", "line", "blank", "no image"],
)
def test_images_as_they_should_be_are_not_told_of(values: NDArray[np.generic]) -> None:
    assert list(layout(runs(values))) == []


@pytest.mark.parametrize(("count", "found"), [(1, ["1 sample, fewer than 16"]), (16, [])])
def test_few_samples_are_counted(count: int, found: list[str]) -> None:
    assert [f.text for f in few_samples(count)] == found


def trained(bias: float, batch_norm: bool) -> Graph:
    """A layer on three channels that gave deviations of 1 in training, on values of deviation 1."""
    text = (
        "graph @net(%x: f32[1,6,6,3]) {\n"
        "  %w = constant : f32[4,1,1,3]\n"
        "  %b = constant : f32[4]\n"
        "  %one = constant : f32[4]\n"
        "  %zero = constant : f32[4]\n"
        "  %c = conv2d(%x, %w, %b) {clamp=ClampRange(low=-inf, high=inf), stride=(1, 1), "
        "padding=(0, 0, 0, 0), dilation=(1, 1), groups=1} : f32[1,6,6,4]\n"
        "BN  return y=%RESULT\n}"
    )
    norm = "  %n = batch_norm(%c, %one, %zero, %zero, %one) {eps=1e-05} : f32[1,6,6,4]\n"
    text = text.replace("BN", norm if batch_norm else "").replace(
        "RESULT", "n" if batch_norm else "c"
    )
    weight = RANDOM.standard_normal((4, 1, 1, 3))
    weight /= np.sqrt((weight**2).sum(axis=3, keepdims=True))
    constants = {
        "w": weight.astype(np.float32),
        "b": np.full(4, bias, np.float32),
        "one": np.ones(4, np.float32),
        "zero": np.zeros(4, np.float32),
    }
    return parse(text, constants)


def found_in(graph: Graph, scale: float, offset: float) -> list[Finding]:
    x = RANDOM.standard_normal((8, 1, 6, 6, 3)) * scale + offset
    return list(first_layer(graph, runs(np.clip(x, 0, 255) if offset > 50 else x)))


@pytest.mark.parametrize(
    ("scale", "offset", "kind", "text"),
    [
        (1.0, 0.0, None, ""),
        (1.7, 0.3, None, ""),
        (0.6, 0.0, None, ""),
        (60.0, 128.0, Kind.INPUT_SCALE, "values look like 0..255, and make results "),
        (0.004, 0.0, Kind.INPUT_SCALE, "values are -0.0"),
        (0.2, 0.0, Kind.FIRST_LAYER, "batch normalisation n reads deviates 0."),
        (5.0, 0.0, Kind.FIRST_LAYER, "batch normalisation n reads deviates "),
    ],
)
def test_a_batch_normalisation_knows_what_it_read_in_training(
    scale: float, offset: float, kind: Kind | None, text: str
) -> None:
    found = found_in(trained(0.0, batch_norm=True), scale, offset)
    assert [f.kind for f in found] == ([] if kind is None else [kind])
    assert all(text in f.text for f in found)


@pytest.mark.parametrize(
    ("scale", "offset", "bias", "kinds"),
    [
        (1.0, 0.0, 0.5, []),
        (60.0, 128.0, 0.5, [Kind.INPUT_SCALE]),
        (60.0, 128.0, 30.0, []),  # trained on 0 to 255
        (60.0, 128.0, 0.0, []),  # no biases, as in a network that scales with its input
        (0.3, 0.5, 30.0, [Kind.INPUT_SCALE]),
    ],
)
def test_biases_tell_the_scale_where_the_batch_normalisation_is_folded(
    scale: float, offset: float, bias: float, kinds: list[Kind]
) -> None:
    assert [f.kind for f in found_in(trained(bias, batch_norm=False), scale, offset)] == kinds


def test_integers_of_the_model_are_no_labels() -> None:
    """Lengths of a recurrent layer look like class numbers."""
    layer = Layer("GRU", ("B", "lengths"))
    graph = import_onnx(layer.model()).graph
    data = samples_of(graph, [layer.feed(seed) for seed in range(20)])
    assert {finding.kind for finding in of_data(graph, data)} & {Kind.LABELS} == set()
