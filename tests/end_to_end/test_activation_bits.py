"""Activations of 16 bits and of both widths, from model to library."""

from __future__ import annotations

import itertools
import json
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled_once import CompiledOnce
from guard_check import guard_check
from network_builder import Network
from numpy.testing import assert_array_equal
from small_networks import NETWORKS

import qcomp
from qcomp.ir.graph import Graph
from qcomp.runtime.verification import verify_directory


def alternating(graph: Graph) -> dict[str, Any]:
    """Every second tensor of the network has 16 bits, counted in the order of its ops."""
    ids = [*graph.inputs.values(), *(op.id.removesuffix(".q") for op in graph.ops())]
    bits = itertools.cycle((16, 8))
    return {id: {"activation_bits": n} for id, n in zip(ids, bits, strict=False)}


def assert_exact(net: qcomp.CompiledNetwork, network: Network) -> None:
    x = network.samples(3, seed=1)
    expected = net.specification(x)
    for name, answer in net(x).items():
        assert_array_equal(answer, expected[name], err_msg=name)


each_network = pytest.mark.parametrize("name", NETWORKS)


@each_network
def test_16_bits_are_exact_and_better_than_8(name: str, compiled_once: CompiledOnce) -> None:
    narrow = qcomp.load(compiled_once(name))
    wide = qcomp.load(compiled_once(name, activation_bits=16))
    assert_exact(wide, NETWORKS[name])
    assert {i.dtype for i in wide.inputs} == {"int16"}
    if narrow.sqnr_db_output is not None and wide.sqnr_db_output is not None:
        assert wide.sqnr_db_output > narrow.sqnr_db_output


@each_network
def test_both_widths_meet_in_one_network(
    name: str, compiled_once: CompiledOnce, tmp_path: Path
) -> None:
    """Each sixth one for several instruction sets, of which verify runs those of this machine."""
    several = list(NETWORKS).index(name) % 6 == 0 and platform.machine() in ("x86_64", "AMD64")
    narrow, network = qcomp.load(compiled_once(name)), NETWORKS[name]
    net = qcomp.compile(
        network.build(),
        "x86-64" if several else "native",
        calibration=network.samples(8),
        config=qcomp.QuantizationConfig(recipe="fast", overrides=alternating(narrow.graph)),
    )
    types = {net.graph.type(op.output).dtype.value for op in net.graph.ops()}
    assert types >= {"i8", "i16"} or name == "movement"  # whose tensors share one scale
    assert verify_directory(net.save(tmp_path / "net"), samples=2).exact


@pytest.mark.parametrize("name", ["detector", "transformer", "arithmetic", "siamese", "pools"])
def test_a_saved_library_stays_within_its_buffers(
    name: str, compiled_once: CompiledOnce, cc: str
) -> None:
    directory = compiled_once(name, activation_bits=16)
    assert guard_check(directory).clean
    assert guard_check(directory, threads=2).clean


def test_types_are_stated_in_manifest_and_header(
    compiled_once: CompiledOnce, tmp_path: Path, cc: str
) -> None:
    saved = compiled_once("resnet", activation_bits=16)
    directory = Path(shutil.copytree(saved, tmp_path / "net"))
    net = qcomp.load(directory)
    manifest = json.loads((directory / "net.manifest.json").read_text())
    assert manifest["inputs"][0]["dtype"] == manifest["outputs"][0]["dtype"] == "int16"
    size = int(np.prod(net.inputs[0].shape))
    assert manifest["inputs"][0]["bytes"] == 2 * size
    (directory / "main.c").write_text(
        """
        #include "net.h"
        static _Alignas(NET_ARENA_ALIGN) uint8_t arena[NET_ARENA_BYTES];
        int main(void) {
          static float real[NET_INPUT0_SIZE], result[NET_OUTPUT0_SIZE];
          static int16_t q[NET_INPUT0_SIZE], y[NET_OUTPUT0_SIZE];
          net_quantize_input(real, q);
          const int status = net_run(q, y, arena);
          net_dequantize_output(y, result);
          return status || net_inputs[0].type != QCOMP_INT16;
        }
        """
    )
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run([cc, *flags, "main.c", "libnet.a", "-o", "main"], cwd=directory, check=True)
    subprocess.run([directory / "main"], check=True)


def test_integers_of_another_width_are_refused(compiled_once: CompiledOnce) -> None:
    net = qcomp.load(compiled_once("resnet", activation_bits=16))
    q = net.quantized(np.zeros(net.inputs[0].shape, np.float32))
    assert isinstance(q, np.ndarray)
    assert q.dtype == np.int16
    net.run_integer(q)
    with pytest.raises(ValueError, match="expected int16, got int8"):
        net.run_integer(q.astype(np.int8))
