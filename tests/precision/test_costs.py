"""What the search counts is what libraries store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from small_networks import NETWORKS

import qcomp
from qcomp.precision.costs import Costs
from qcomp.precision.parts import Kind, parts_of
from qcomp.precision.prepare import Preparation
from qcomp.targets.catalog import target

Prepare = Callable[..., Preparation]
FREE = {"first_last_weight_bits": 1}


def counted(preparation: Preparation, bits: int) -> int:
    costs = Costs(preparation.graph, preparation.config, target("native"))
    weights = (p for p in parts_of(preparation.graph) if p.kind is Kind.WEIGHTS)
    return sum(costs.of(part, bits).bytes for part in weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet", "mobilenet_v2"])
def test_fewer_bits_save_in_the_library_what_the_search_counts(name: str, prepare: Prepare) -> None:
    """Headers, and what depthwise layers are padded with, do not depend on bits."""
    network, preparation = NETWORKS[name], prepare(name, **FREE)

    def stored(bits: int) -> int:
        config = replace(preparation.config, weight_bits=bits)
        return qcomp.compile(
            network.build(), calibration=network.samples(4), config=config
        ).weights_bytes

    saved = [(counted(preparation, b), stored(b)) for b in (8, 4, 2)]
    assert saved[0][0] > saved[1][0] > saved[2][0]
    assert len({library - count for count, library in saved}) == 1


def test_weights_in_groups_and_those_of_i16_kernels_count_eight_bits(prepare: Prepare) -> None:
    plain = prepare("resnet", **FREE)
    for choices in ({"group_size": 8}, {"activation_bits": 16}):
        assert counted(prepare("resnet", **FREE, **choices), 4) == counted(plain, 8)
