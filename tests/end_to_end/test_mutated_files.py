"""Arrays, manifests, graphs and recipes that were changed are read, or refused by name.

Without --slow a few hundred of each; the tests marked slow go on with new ones for `--fuzz SECONDS`
each. A case is made from its number, which a failure shows.
"""

from __future__ import annotations

import io
import os
import random
import resource
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from file_mutations import mutated_document, mutated_lines, mutated_npy, mutated_npz, wrong_bytes
from manifests import rehash

import qcomp
from qcomp.calibration.samples import samples_of
from qcomp.errors import CompileError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import OPS
from qcomp.ir.parse import ParseError, parse
from qcomp.ir.text import arrays_of
from qcomp.recipes.file import read_recipe, recipe_text
from qcomp.runtime.manifest import manifest_text, read_manifest

LONGEST = 20.0  # seconds of a case
LARGEST = 2 << 20  # KiB that all cases may add to the process
X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
GRAPH = parse("graph @g(%x: f32[2,4], %z: f32[2,4]) {\n  return y=%x, w=%z\n}")
ONE = parse("graph @g(%x: f32[2,4]) {\n  return y=%x\n}")
CONFIG = qcomp.QuantizationConfig(
    overrides={"a": {"range": (-1.0, 2.0)}, "b.*": {"weight_bits": 4}},
    inputs={"*": {"type": "uint8", "mean": 127.5, "std": (58.4, 57.1, 57.4)}},
    outputs={"y": "argmax"},
    passes=({"name": "acme.x", "after": "fold-batch-norm", "fields": {"a": 1, "b": [0.5]}},),
    preprocessing=qcomp.data.Preprocessing(mean=(0.5,), std=(0.2,)),
)

Case = Callable[[random.Random], None]


def npy(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    if len(arrays) == 1:
        np.save(file, *arrays.values())
    else:
        np.savez(file, **arrays)
    return file.getvalue()


@pytest.fixture(params=["npy", "npz", "manifest", "graph", "directory", "recipe", "yaml"])
def case(request: pytest.FixtureRequest, saved_dense: Path, dense: Any, tmp_path: Path) -> Case:
    """Makes a file from random numbers and reads it; anything but a CompileError is a failure."""
    return globals()[f"{request.param}_case"](saved_dense, dense, tmp_path)


def npy_case(saved: Path, net: Any, folder: Path) -> Case:
    data, path = npy(x=X), folder / "x.npy"

    def read(rng: random.Random) -> None:
        path.write_bytes(mutated_npy(data, rng))
        checked(list(samples_of(ONE, path)), ONE)

    return read


def npz_case(saved: Path, net: Any, folder: Path) -> Case:
    data, path = npy(x=X, z=X), folder / "x.npz"

    def read(rng: random.Random) -> None:
        path.write_bytes(mutated_npz(data, rng))
        checked(list(samples_of(GRAPH, path)), GRAPH)

    return read


def checked(runs: list[Any], graph: Graph) -> None:
    """What was read is what the graph takes."""
    assert runs
    for run in runs:
        for name, id in graph.inputs.items():
            assert run[name].shape == graph.type(id).shape
            assert np.isfinite(run[name]).all()


def manifest_case(saved: Path, net: Any, folder: Path) -> Case:
    copy = Path(shutil.copytree(saved, folder / "net"))
    (path,) = copy.glob("*.manifest.json")
    text, fields = path.read_text(), read_manifest(path)
    del fields["version"]

    def read(rng: random.Random) -> None:
        if rng.random() < 0.2:
            path.write_bytes(wrong_bytes(text.encode(), rng))
        else:
            try:
                path.write_text(manifest_text(mutated_document(fields, rng)), errors="replace")
            except ValueError:  # a number that JSON has not
                return
        used(qcomp.load(copy), net)

    return read


def used(loaded: Any, net: Any) -> None:
    """It runs, and to the same bits: sizes are those of the library, whatever was said."""
    np.testing.assert_array_equal(
        loaded.run_integer(net.quantized(X)), net.run_integer(net.quantized(X))
    )


def directory_case(saved: Path, net: Any, folder: Path) -> Case:
    """The graph's text in a directory whose hashes are right again, or an array of it."""
    copy = Path(shutil.copytree(saved, folder / "net"))
    texts = {p: p.read_bytes() for p in copy.glob("*.txt")}
    arrays = {p: p.read_bytes() for p in copy.glob("*.npz")}
    (manifest,) = copy.glob("*.manifest.json")
    sealed = manifest.read_bytes()

    def read(rng: random.Random) -> None:
        manifest.write_bytes(sealed)
        for path, content in {**texts, **arrays}.items():
            path.write_bytes(content)
        path = rng.choice(sorted({**texts, **arrays}))
        if path in texts:
            text = mutated_lines(texts[path].decode(), WORDS, rng)
            path.write_text(text, errors="replace")
        else:
            path.write_bytes(mutated_npz(arrays[path], rng))
        rehash(copy)
        loaded = qcomp.load(copy)
        used(loaded, net)
        _ = loaded.qdq

    return read


WORDS = ["f32", "i8", "i64", "constant", "return", "graph", "x", "%x", *OPS, "None", "True", "inf"]


def graph_case(saved: Path, net: Any, folder: Path) -> Case:
    graphs = [net.graph, net.qdq]
    known = [(str(graph), dict(arrays_of(graph))) for graph in graphs]

    def read(rng: random.Random) -> None:
        text, arrays = rng.choice(known)
        try:
            graph = parse(mutated_lines(text, WORDS, rng), arrays)
        except ParseError:
            return
        assert str(parse(str(graph), dict(arrays_of(graph)))) == str(graph)

    return read


def recipe_case(saved: Path, net: Any, folder: Path) -> Case:
    document, path = yaml.safe_load(recipe_text(CONFIG)), folder / "r.yaml"

    def read(rng: random.Random) -> None:
        path.write_text(yaml.safe_dump(mutated_document(document, rng)))
        printed_again(path)

    return read


def yaml_case(saved: Path, net: Any, folder: Path) -> Case:
    """As text: indents, marks and anchors of YAML."""
    text, path = recipe_text(CONFIG), folder / "r.yaml"
    words = [
        "&a",
        "*a",
        "!!python/object:os.system",
        "- ",
        "? ",
        "|",
        "~",
        "{",
        "<<: ",
        "1e3",
        "0x",
    ]

    def read(rng: random.Random) -> None:
        path.write_text(mutated_lines(text, words, rng), errors="replace")
        printed_again(path)

    return read


def printed_again(path: Path) -> None:
    """What was read is written and read to the same."""
    config = read_recipe(path)
    path.write_text(recipe_text(config))
    assert read_recipe(path) == config


def tried(case: Case, seed: int) -> None:
    """One case; a failure tells its number."""
    began = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's, of headers
            case(random.Random(seed))
    except CompileError:
        pass
    except Exception as error:
        raise AssertionError(f"case {seed}: {type(error).__name__}: {error}") from error
    assert time.monotonic() - began < LONGEST, f"case {seed}"


def test_changed_files_are_read_or_refused(case: Case) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(60):
        tried(case, seed)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < LARGEST


@pytest.mark.slow
def test_changed_files_for_as_long_as_is_asked(case: Case, pytestconfig: pytest.Config) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    end = time.monotonic() + float(pytestconfig.getoption("--fuzz"))
    first = int.from_bytes(os.urandom(6))
    number = 0
    while time.monotonic() < end:
        tried(case, first + number)
        number += 1
    assert number > 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < LARGEST
