"""Boxes of the zoo's detectors, integer against float: F1, and dB of the worst part.

    QCOMP_ZOO=... python benchmarks/boxes.py [NETWORK ...] [--config '{"activation_bits": 8}']

Calibration takes the photographs of the zoo's calibration, evaluation the others. A box counts at a
score of .3, after suppression of those of its class that overlap one of a higher score by more than
.45; a box of the integer network is right if it has an IoU of .5 or more with one of the float
network, of the same class, that no box of a higher score has taken. F1 is over all photographs
together.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zoo_report import all_outputs, load_zoo

import qcomp
from qcomp.accuracy.measure import noise_of
from qcomp.calibration.statistics import float_outputs
from qcomp.frontends import import_model

Array = NDArray[Any]
SCORE, SUPPRESSED, RIGHT = 0.3, 0.45, 0.5


@dataclass(frozen=True)
class Boxes:
    """Corners of boxes [n, 4] (left, top, right, bottom), their scores and classes [n]."""

    corners: Array
    scores: Array
    classes: Array

    def __len__(self) -> int:
        return len(self.scores)

    @staticmethod
    def of(centers: Array, sizes: Array, scores: Array) -> Boxes:
        """Of all positions: centers and sizes [n, 2], scores [n, classes]."""
        best = scores.max(1)
        order = [i for i in np.argsort(-best, kind="stable") if best[i] > SCORE]
        corners = np.concatenate([centers - sizes / 2, centers + sizes / 2], 1)
        every = Boxes(corners[order], best[order], scores.argmax(1)[order])
        return every._suppressed()

    def _suppressed(self) -> Boxes:
        kept: list[int] = []
        for i in range(len(self)):
            near = [k for k in kept if self.classes[k] == self.classes[i]]
            if not near or overlaps(self.corners[i], self.corners[near]).max() <= SUPPRESSED:
                kept.append(i)
        return Boxes(self.corners[kept], self.scores[kept], self.classes[kept])


def overlaps(box: Array, others: Array) -> Array:
    """Intersection over union of one box and each of others."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return shared / (areas - shared)


def matches(ours: Boxes, theirs: Boxes) -> int:
    """How many of ours are right, from the highest score on."""
    left = list(range(len(theirs)))
    for i in range(len(ours)):
        same = [k for k in left if theirs.classes[k] == ours.classes[i]]
        iou = overlaps(ours.corners[i], theirs.corners[same])
        if len(same) and iou.max() >= RIGHT:
            left.remove(same[int(iou.argmax())])
    return len(theirs) - len(left)


def f1(ours: Sequence[Boxes], theirs: Sequence[Boxes]) -> float:
    """Of all boxes together: twice the right ones over all of both."""
    right = sum(matches(a, b) for a, b in zip(ours, theirs, strict=True))
    return 2 * right / max(sum(map(len, ours)) + sum(map(len, theirs)), 1)


def cells(n: int) -> Array:
    """Columns and rows of a grid of n x n, [n * n, 2]."""
    return np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).reshape(-1, 2)


def yolox(output: Array) -> Boxes:
    """Of [3549, 85]: offsets in cells, logarithms of sizes, objectness, 80 classes."""
    grids = [(416 // stride, stride) for stride in (8, 16, 32)]
    places = [
        np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).reshape(-1, 2) for n, _ in grids
    ]
    strides = np.concatenate([np.full((n * n, 1), stride) for n, stride in grids])
    centers = (output[:, :2] + np.concatenate(places)) * strides
    return Boxes.of(centers, np.exp(output[:, 2:4]) * strides, output[:, 4:5] * output[:, 5:])


def fastestdet(output: Array) -> Boxes:
    """Of [85, 22, 22]: objectness, offsets before tanh, sizes before sigmoid, 80 classes."""
    rows = output.reshape(85, -1).T
    centers = (cells(22) + np.tanh(rows[:, 1:3])) / 22
    sizes = 1 / (1 + np.exp(-rows[:, 3:5]))
    return Boxes.of(centers, sizes, rows[:, :1].clip(0) ** 0.6 * rows[:, 5:].clip(0) ** 0.4)


DETECTORS: Mapping[str, Callable[[Array], Boxes]] = {"yolox_nano": yolox, "fastestdet": fastestdet}


def measured(zoo: ModuleType, name: str, config: qcomp.QuantizationConfig) -> dict[str, Any]:
    """A row: boxes and decibels of the integer network on the evaluation data."""
    network = zoo.load(name)
    calibration, _ = network.data("calibration")
    x, _ = network.data("evaluation")
    net = qcomp.compile(str(network.model), calibration=calibration, config=config)
    answer = all_outputs(net(x))[0].reshape(len(x), *net.outputs[0].shape[1:])
    wanted = zoo.run_float(network, x).reshape(answer.shape)
    decode = DETECTORS[name]
    assert net.accuracy is not None
    output = next(iter(float_outputs(import_model(str(network.model)).graph)))
    ratios = {
        str(part.part): noise_of(
            part.part, [{output: w[None]} for w in wanted], [{output: a[None]} for a in answer]
        ).db
        for part in net.accuracy.parts
    }
    return {
        "network": name,
        "f1": round(f1([decode(a) for a in answer], [decode(w) for w in wanted]), 3),
        "boxes": sum(len(decode(w)) for w in wanted),
        "parts_db": {part: round(db, 1) for part, db in ratios.items()},
        "notes": net.notes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(DETECTORS))
    parser.add_argument("--config", type=json.loads, default={}, help="fields, as JSON")
    options = parser.parse_args()
    for name in options.networks or DETECTORS:
        config = qcomp.QuantizationConfig(**options.config)
        print(measured(load_zoo(), name, config), flush=True)


if __name__ == "__main__":
    main()
