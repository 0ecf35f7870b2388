"""Noise, copies of one sample and samples of two scales are told from typical inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qcomp.calibration.samples import Run
from qcomp.findings.record import Finding
from qcomp.findings.variety import noise, repeated, unlike

RANDOM = np.random.default_rng(5)


def runs(values: NDArray[Any]) -> list[Run]:
    return [{"x": sample.astype(np.float32)} for sample in values]


def photographs(count: int = 16, size: int = 24) -> NDArray[Any]:
    """[N, 1, 3, H, W], smooth, with some grain."""
    down, across = np.linspace(0, 3, size)[:, None], np.linspace(0, 4, size)
    phases = RANDOM.uniform(0, 6, (count, 1, 3, 1, 1))
    grain = RANDOM.uniform(0, 0.5, (count, 1, 3, size, size))
    return np.asarray(1 + np.sin(down + across + phases) + grain)


def bright_and_dark() -> NDArray[Any]:
    """Each channel of each photograph has a brightness of its own, far apart."""
    return photographs(size=48) + RANDOM.normal(0, 5, (16, 1, 3, 1, 1))


def shuffled(values: NDArray[Any]) -> NDArray[Any]:
    """The pixels of every image in one other order, as a wrong reshape or stride leaves them."""
    *outer, a, b, c = values.shape
    channels_last = c == 3
    flat = values.reshape(*outer, a * b, c) if channels_last else values.reshape(*outer, a, b * c)
    order = RANDOM.permutation(a * b if channels_last else b * c)
    moved = flat[..., order, :] if channels_last else flat[..., order]
    return moved.reshape(values.shape)


def kinds(found: Any) -> list[str]:
    return [str(f.kind) for f in found]


@pytest.mark.parametrize(
    "values",
    [
        RANDOM.standard_normal((16, 1, 3, 24, 24)),
        RANDOM.uniform(0, 1, (16, 1, 24, 24, 3)),
        RANDOM.standard_normal((16, 1, 1, 49, 10)),
        RANDOM.permuted(photographs().reshape(16, -1), axis=1).reshape(16, 1, 3, 24, 24),
        shuffled(bright_and_dark()),
        shuffled(bright_and_dark()[:, ::-1].transpose(0, 1, 3, 4, 2)),
        shuffled(bright_and_dark())[:1],
    ],
    ids=["normal", "uniform, NHWC", "one channel", "shuffled", "of all kinds", "NHWC", "one"],
)
def test_images_of_unrelated_values_are_noise(values: NDArray[Any]) -> None:
    (finding,) = noise(runs(values))
    assert "neighbouring values are unrelated (correlation 0.0" in finding.text


@pytest.mark.parametrize(
    "values",
    [
        photographs(),
        photographs().transpose(0, 1, 3, 4, 2),
        bright_and_dark(),
        bright_and_dark()[:1],
        np.repeat(RANDOM.standard_normal((16, 1, 3, 24, 1)), 24, axis=4),  # related one way
        np.zeros((16, 1, 3, 24, 24)),
        RANDOM.standard_normal((16, 1, 64, 24, 24)),  # features, no image
        RANDOM.standard_normal((16, 1, 500)),
        RANDOM.standard_normal((2, 1, 3, 8, 8)),  # too few values
    ],
    ids=["NCHW", "NHWC", "bright and dark", "one", "stripes", "blank", "features", "a list", "few"],
)
def test_other_inputs_are_not_noise(values: NDArray[Any]) -> None:
    assert list(noise(runs(values))) == []


def told(found: Any) -> Finding:
    (finding,) = found
    assert isinstance(finding, Finding)
    return finding


def test_copies_of_few_samples_are_told() -> None:
    images = photographs()
    finding = told(repeated(runs(np.repeat(images[:1], 16, axis=0))))
    assert finding.text == "all samples that were looked at are equal"
    finding = told(repeated(runs(np.repeat(images[:3], 5, axis=0))))
    assert finding.text == "there are 3 different ones among the first 15 samples"
    assert list(repeated(runs(images))) == []
    assert list(repeated(runs(np.concatenate([images[:12], images[:4]])))) == []
    assert list(repeated(runs(np.zeros((16, 1, 3, 8, 8))))) == []  # which the ranges tell
    assert list(repeated(runs(images[:1]))) == []  # too few, which is told elsewhere


def test_samples_of_two_scales_are_told_and_loud_and_quiet_ones_are_not() -> None:
    images = photographs(24)
    images[:8] *= 255
    finding = told(unlike(runs(images)))
    assert finding.text.startswith("16 of 24 samples reach 2.")
    assert finding.number > 200
    images = photographs(24) * np.geomspace(1, 100, 24).reshape(24, 1, 1, 1, 1)
    assert list(unlike(runs(images))) == []
    images = photographs(24)
    images[3] *= 255  # one, which is an outlier
    assert list(unlike(runs(images))) == []
    images[4:9] = 0
    assert list(unlike(runs(images))) == []
