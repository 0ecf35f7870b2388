"""Both ways to statistics, on a real network with batch normalisation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcomp.calibration.batch_norm import ranges_from_batch_norm
from qcomp.calibration.collect import collect
from qcomp.frontends import import_model
from qcomp.ir import Form
from qcomp.passes.base import PassManager
from qcomp.passes.canonicalize_layout import CanonicalizeLayout
from qcomp.passes.fold_batch_norm import FoldBatchNorm
from qcomp.passes.fold_constants import FoldConstants
from qcomp.passes.fuse_activation import FuseActivation

pytestmark = pytest.mark.zoo


def test_batch_norm_tells_of_a_residual_network_what_data_would_tell(
    zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(zoo))
    from zoo import load

    network = load("resnet20_cifar10")
    images, _ = network.data("calibration", 50)
    manager = PassManager()
    graph = manager.begin(import_model(network.model).graph, Form.FLOAT)
    manager.run(graph, [FoldConstants(), CanonicalizeLayout(), FoldBatchNorm(), FuseActivation()])
    measured = collect(graph, images)
    (name,) = graph.inputs
    derived = ranges_from_batch_norm(graph, {name: (float(images.min()), float(images.max()))})
    for id in measured.mnemonics:
        low, high = measured.range(id, "minmax")
        known_low, known_high = derived.implied[id]
        inside = min(high, known_high) - max(low, known_low)
        assert inside > 0.7 * (high - low), id
        assert known_high - known_low < 4 * (high - low), id
    agreement = [
        np.corrcoef(mean, derived.channel_means[id])[0, 1]
        for id, mean in measured.channel_means.items()
        if mean.size >= 16
    ]
    assert np.median(agreement) > 0.75
