"""Libraries with taps tell of each tensor in memory, to the bit, and count clipped values."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from guard_check import WARNINGS
from manifests import edited
from numpy.typing import NDArray
from test_random_networks import seeded

import qcomp
from qcomp.debug.compare import compare_dump
from qcomp.ir.evaluate import evaluate_all
from qcomp.ir.graph import Graph
from qcomp.ir.numbering import activations
from qcomp.targets.base import Artifact
from qcomp.targets.catalog import target
from qcomp.targets.cpu.isa import X86_LADDER
from qcomp.targets.cpu.library.codegen import object_code
from qcomp.targets.cpu.library.objects import defined_symbols
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.process.emulator import emulated, tools_for
from qcomp.targets.cpu.process.jit import load_objects
from qcomp.targets.cpu.target import CpuTarget
from tests.targets.conftest import Kit, host_isas
from tests.targets.test_cpu_chain import INVERTED_RESIDUAL, network

ROOT = Path(__file__).resolve().parent.parent.parent
Inputs = Mapping[str, NDArray[Any]]

PRINTED = """
#include <stdio.h>
#include "net.h"
static void show(void *user, int tensor, const void *data, size_t bytes) {
  (void)user;
  printf("%d ", tensor);
  for (size_t i = 0; i < bytes; i++) printf("%02x", ((const unsigned char *)data)[i]);
  printf("\\n");
}
#define ALIGN NET_ARENA_ALIGN
static unsigned char room[NET_ARENA_BYTES + ALIGN];
static const unsigned char input[] = {INPUT};
int main(void) {
  static int8_t output[NET_OUTPUT0_SIZE];
  void *arena = (void *)(((uintptr_t)room + ALIGN - 1) / ALIGN * ALIGN);
  int status = net_run_tapped((const int8_t *)input, output, arena, show, 0);
  for (int i = 0; i < NET_TENSORS; i++) printf("%d clipped\\n", (int)net_clipped(arena)[i]);
  return status;
}
"""


def told_of(artifact: Artifact, graph: Graph, inputs: Inputs) -> tuple[dict[int, bytes], list[int]]:
    """The tensors of a run by number, and the counts of clipped values."""
    outputs = [
        np.empty(graph.type(t).shape, graph.type(t).dtype.numpy) for t in graph.outputs.values()
    ]
    entry = load_objects(artifact.files.values(), artifact.name, len(inputs) + len(outputs) + 1)
    arena, told = artifact.memory.allocated(), dict[int, bytes]()
    arena[:] = 0x5A
    entry.run_tapped([inputs[name] for name in graph.inputs], outputs, arena, told.__setitem__)
    return told, list(arena[: 4 * len(activations(graph))].view(np.int32))


def check(artifact: Artifact, graph: Graph, inputs: Inputs, isa: str) -> None:
    told, counts = told_of(artifact, graph, inputs)
    assert artifact.taps is not None
    missing = artifact.taps.missing[isa]
    values = evaluate_all(graph, inputs)
    for number, id in enumerate(activations(graph)):
        assert (number in told) is (id not in missing), id
        if number in told:
            assert told[number] == np.ascontiguousarray(values[id]).tobytes(), id
        q = graph.tensor(id).qparams
        ends = () if q is None or number not in told else q.ends
        assert counts[number] == np.isin(values[id], ends).sum(), id


def random_inputs(graph: Graph) -> Inputs:
    random = np.random.default_rng(0)
    return {
        name: random.integers(-128, 128, graph.type(t).shape).astype(graph.type(t).dtype.numpy)
        for name, t in graph.inputs.items()
    }


@pytest.mark.parametrize("isa", host_isas(), ids=lambda isa: isa.name)
def test_every_tensor_of_a_network_is_told_of_to_the_bit(isa: Isa, digits: Path) -> None:
    graph = qcomp.load(digits).graph
    artifact = CpuTarget("one", (isa,)).tapped().emit(graph, "net")
    check(artifact, graph, random_inputs(graph), isa.name)


def test_layers_that_would_be_chained_are_told_of() -> None:
    graph, inputs = network(Kit(1, object_code), (60, 60), 16, INVERTED_RESIDUAL, residual=True)
    isa = host_isas()[-1]
    artifact = CpuTarget("one", (isa,)).tapped().emit(graph, "net")
    check(artifact, graph, inputs, isa.name)
    assert artifact.taps is not None
    assert len(artifact.taps.missing[isa.name]) <= 1


@pytest.mark.parametrize("seed", [1, 2, 3, 5, 8, 13])
def test_tensors_of_random_networks_are_told_of_to_the_bit(seed: int) -> None:
    grower = seeded(seed)
    model = grower.grow()
    sample = {n: grower.random.normal(size=s).astype(np.float32) for n, s in grower.inputs.items()}
    net = qcomp.compile(model, calibration=[sample], recipe="fast", name="random", taps=True)
    check(net.artifact, net.graph, net.quantized(sample), net.isa[-1])


@pytest.mark.parametrize("name", ["aarch64", "armv7"])
def test_other_machines_tell_the_same(name: str, digits: Path) -> None:
    cpu, graph = target(name), qcomp.load(digits).graph
    assert isinstance(cpu, CpuTarget)
    try:
        tools = tools_for(cpu.isas[0].triple)
    except qcomp.TargetError as error:
        pytest.skip(str(error))
    inputs = random_inputs(graph)
    artifact = cpu.tapped().emit(graph, "net")
    numbers = ", ".join(str(byte) for byte in inputs["image"].tobytes())
    printed = emulated(tools, artifact, PRINTED.replace("INPUT}", f"{numbers}}}")).output
    told = {int(n): bytes.fromhex(h) for n, h in re.findall(r"^(\d+) ([0-9a-f]+)$", printed, re.M)}
    values = evaluate_all(graph, inputs)
    assert artifact.taps is not None
    ids = [id for id in activations(graph) if id not in artifact.taps.missing[cpu.isas[0].name]]
    assert {activations(graph)[n]: data for n, data in told.items()} == {
        id: np.ascontiguousarray(values[id]).tobytes() for id in ids
    }
    counts = list(map(int, re.findall(r"^(\d+) clipped$", printed, re.M)))
    for number, id in enumerate(activations(graph)):
        q = graph.tensor(id).qparams
        assert q is not None
        assert counts[number] == (np.isin(values[id], q.ends).sum() if id in ids else 0)


def test_a_library_without_taps_is_what_it_was(digits: Path) -> None:
    graph = qcomp.load(digits).graph
    plain = CpuTarget("several", X86_LADDER[:2])
    before = plain.emit(graph, "net")
    tapped = plain.tapped().emit(graph, "net")
    after = plain.emit(graph, "net")
    assert (before.files, before.sources, before.memory) == (
        after.files,
        after.sources,
        after.memory,
    )
    symbols = {s for content in before.files.values() for s in defined_symbols(content)}
    more = {s for content in tapped.files.values() for s in defined_symbols(content)} - symbols
    assert more == {"net_run_tapped", "net_tensors"}
    assert "tap" not in before.sources["net.h"]
    assert before.taps is None


def test_a_run_that_tells_nobody_gives_the_same(digits: Path) -> None:
    net = qcomp.load(digits)
    artifact = CpuTarget("one", (host_isas()[-1],)).tapped().emit(net.graph, "net")
    entry, inputs = load_objects(artifact.files.values(), "net", 3), random_inputs(net.graph)
    output = np.empty((1, 10), np.int8)
    entry([inputs["image"]], [output], artifact.memory.allocated())
    np.testing.assert_array_equal(output, net.specification_integer(inputs)["logits"])


def test_each_set_of_a_library_tells_what_it_has(examples: Path, tmp_path: Path) -> None:
    data = examples / "digits_calibration.npz"
    net = qcomp.compile(
        examples / "digits.onnx", "x86-64", calibration=data, recipe="fast", name="d", taps=True
    )
    taps = net.artifact.taps
    assert taps is not None
    assert tuple(taps.missing) == net.isa
    assert any("taps tell of " in note for note in net.notes)
    loaded = qcomp.load(net.save(tmp_path / "d"))
    assert loaded.artifact.taps == taps
    header = (tmp_path / "d" / "d.h").read_text()
    for number, id in enumerate(taps.tensors):
        (line,) = re.findall(rf"^ +{number} {re.escape(id)}: .*$", header, re.M)
        assert ("in registers" in line) is any(id in ids for ids in taps.missing.values())


@pytest.mark.parametrize(
    "fields",
    [
        {"tensors": [{"id": "other"}]},
        {"missing": {}},
        {"missing": {"mmx": []}},
        {"tensors": 3},
        {"missing": None},
    ],
)
def test_taps_that_a_manifest_makes_up_are_refused(
    examples: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    net = qcomp.compile(examples / "digits.onnx", recipe="fast", name="d", taps=True)
    directory = edited(net.save(tmp_path / "d"), lambda m: m["taps"].update(fields))
    with pytest.raises(qcomp.ModelError, match="incomplete or damaged"):
        qcomp.load(directory)


@pytest.mark.parametrize("name", ["opencl", "tvm-c", "opencl+native"])
def test_a_target_without_taps_refuses_them(examples: Path, name: str) -> None:
    with pytest.raises(qcomp.TargetError, match=f"{re.escape(name)} has no taps; expected"):
        qcomp.compile(examples / "digits.onnx", name, taps=True)


def test_the_tap_of_the_page_writes_a_dump(examples: Path, tmp_path: Path, cc: str) -> None:
    page = (ROOT / "docs" / "c-interface.md").read_text()
    (tap,) = (b for b in re.findall(r"^```c\n(.*?)^```$", page, re.M | re.S) if "fwrite" in b)
    data = examples / "digits_calibration.npz"
    net = qcomp.compile(
        examples / "digits.onnx", calibration=data, recipe="fast", name="digits", taps=True
    )
    folder = net.save(tmp_path / "digits")
    (folder / "main.c").write_text(
        f'#include "digits.h"\n#include "digits.h"\n{tap}'
        """
static _Alignas(DIGITS_ARENA_ALIGN) unsigned char arena[DIGITS_ARENA_BYTES];
int main(void) {
  int8_t input[DIGITS_INPUT0_SIZE], output[DIGITS_OUTPUT0_SIZE];
  FILE *file = fopen("dump", "wb");
  for (int run = 0; run < 3; run++) {
    for (int i = 0; i < DIGITS_INPUT0_SIZE; i++) input[i] = (int8_t)(i * run);
    if (digits_run_tapped(input, output, arena, write_tap, file)) return 1;
  }
  if (digits_clipped(arena)[0] < 0 || digits_tensors[0].rank != 4) return 1;
  return fclose(file);
}
"""
    )
    flags = [*WARNINGS, "-std=c11", "main.c", "libdigits.a", "-lm", "-o", "main"]
    subprocess.run([cc, *flags], cwd=folder, check=True)
    subprocess.run(["./main"], cwd=folder, check=True)
    found = compare_dump(net, folder / "dump")
    assert found.exact
    assert (found.runs, found.first) == (3, None)
    assert net.artifact.taps is not None
    assert set(found.absent) == set(net.artifact.taps.missing[net.isa[-1]])
