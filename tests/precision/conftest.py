"""Problems of small networks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_networks import NETWORKS

import qcomp
from qcomp.precision.prepare import Preparation
from qcomp.precision.problem import Problem
from qcomp.targets.catalog import target as find_target

Prepare = Callable[..., Preparation]


@pytest.fixture(scope="session")
def prepare() -> Prepare:
    """`prepare("resnet", bias_correction=None)`: a network with 4 samples."""

    def made(name: str, **choices: object) -> Preparation:
        network = NETWORKS[name]
        config = qcomp.QuantizationConfig(recipe="fast", range="minmax", **choices)
        return Preparation(network.build(), network.samples(4), config, find_target("native").cost)

    return made


@pytest.fixture(scope="session")
def resnet(prepare: Prepare) -> Problem:
    return prepare("resnet").problem((8,), (8,))
