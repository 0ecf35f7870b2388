"""Small networks that many tests read, each compiled once in a run of the tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from made_once import made_once
from small_networks import NETWORKS

import qcomp

SAMPLES = 12


@dataclass(frozen=True)
class CompiledOnce:
    """`compiled_once("resnet", activation_bits=16)`: the directory of a network for this machine.

    By the recipe "fast", under the name `net`, on SAMPLES samples; copy it before spoiling it.
    """

    factory: pytest.TempPathFactory

    def __call__(self, name: str, **choices: Any) -> Path:
        network, config = NETWORKS[name], qcomp.QuantizationConfig(recipe="fast", **choices)

        def make(path: Path) -> None:
            data = network.samples(SAMPLES)
            qcomp.compile(network.build(), calibration=data, config=config, name="net").save(path)

        key = "-".join([name, *(f"{field}={choice}" for field, choice in choices.items())])
        return made_once(self.factory, key, make)
