"""Whole networks on other machines, in emulators, between guard pages, to the bit.

`make test-emulated` runs these, and the tests of operators.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled_once import CompiledOnce
from emulated import COUNTED, PROCESSORS, Emulated
from kept import kept_objects
from made_once import made_once
from numpy.typing import NDArray
from small_networks import NETWORKS
from test_random_networks import seeded

import qcomp
from qcomp.targets.catalog import target
from qcomp.targets.cpu.library.parallel import SPLITTING, Splitting
from qcomp.targets.cpu.target import CpuTarget

pytestmark = pytest.mark.slow

EVERYTHING = Splitting(least_ns=0.0, item_ns=0.0)  # small networks are not worth sharing

Inputs = Mapping[str, NDArray[Any]]

# Of floats and, in files of TensorFlow Lite, of integers with their own arithmetic.
ZOO = (
    "mnist",
    "resnet20_cifar10",
    "resnet8_cifar10",
    "resnet8_cifar10_int8",
    "kws",
    "kws_int8",
    "vww",
    "vww_int8",
    "autoencoder",
    "autoencoder_int8",
    "mobilenetv1_025_bn",
    "squeezenet1_1",
    "fastestdet",
    "mobilenetv2_tf",
    "mobilenetv2_tf_tflite",
    "mobilenetv2_tf_ptq",
    "yolox_nano",
)


@pytest.fixture(scope="session", params=PROCESSORS)
def machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Emulated]:
    """Each target in turn; a library of several sets on processors that have some of them."""
    triple = cpu_target(request.param).isas[0].triple
    emulated = Emulated.of(request.param, triple, tmp_path_factory.mktemp("emulated"))
    request.config.stash.setdefault(COUNTED, {})[f"networks, {request.param}"] = emulated.counts
    yield emulated
    emulated.close()


def cpu_target(name: str) -> CpuTarget:
    found = target(name)
    assert isinstance(found, CpuTarget)
    return found


def check(
    net: qcomp.CompiledNetwork,
    cases: list[Inputs],
    machine: Emulated,
    splitting: Splitting = EVERYTHING,
) -> None:
    cpu = replace(cpu_target(machine.target), splitting=splitting, generate=kept_objects())
    artifact = cpu.emit(net.graph, net.name)
    for inputs in cases:
        expected = net.specification_integer(inputs)
        machine.check(artifact, [inputs[i.name] for i in net.inputs], expected)


def cases_of(net: qcomp.CompiledNetwork, samples: list[Inputs], seed: int) -> list[Inputs]:
    """Data, and the extremes of what a library may be given."""
    random = np.random.default_rng(seed)

    def extremes(info: Any) -> NDArray[Any]:
        limits = np.iinfo(info.dtype)
        return random.choice(np.array([limits.min, limits.max], info.dtype), info.shape)

    return [*map(net.quantized, samples), {i.name: extremes(i) for i in net.inputs}]


@pytest.mark.parametrize("name", NETWORKS)
def test_small_networks(name: str, machine: Emulated, compiled_once: CompiledOnce) -> None:
    network, net = NETWORKS[name], qcomp.load(compiled_once(name))
    (sample,) = [{n: a[: network.shape[0]] for n, a in network.samples(1, seed=1).items()}]
    check(net, cases_of(net, [sample], 1), machine)


@pytest.mark.parametrize("seed", range(60))
def test_random_networks(
    seed: int, machine: Emulated, tmp_path_factory: pytest.TempPathFactory
) -> None:
    grower = seeded(seed)
    model = grower.grow()
    sample = {n: grower.random.normal(size=s).astype("f4") for n, s in grower.inputs.items()}

    def make(path: Path) -> None:
        qcomp.compile(model, calibration=[sample], recipe="fast", name="random").save(path)

    net = qcomp.load(made_once(tmp_path_factory, f"random-{seed}", make))
    check(net, cases_of(net, [sample], seed), machine)


@pytest.mark.zoo
@pytest.mark.parametrize("name", ZOO)
def test_networks_of_the_zoo(
    name: str,
    machine: Emulated,
    zoo: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    pytest.importorskip("PIL", reason="the zoo's loader reads images with pillow")
    monkeypatch.syspath_prepend(str(zoo))
    from zoo import load

    network = load(name)
    data, _ = network.data("evaluation", 2)

    def make(path: Path) -> None:
        samples, _ = network.data("calibration", 4)
        qcomp.compile(network.model, calibration=samples, recipe="fast", name=name).save(path)

    net = qcomp.load(made_once(tmp_path_factory, f"zoo-{name}", make))
    (info,) = net.inputs
    check(net, cases_of(net, [{info.name: x[None]} for x in data], 2), machine, SPLITTING)
