"""The directory of a network: what is in it, that it loads to the same bits, what damage does."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from limited_files import limited_files
from manifests import edited, rehash
from numpy.testing import assert_array_equal

import qcomp
from qcomp.runtime.manifest import read_manifest
from qcomp.runtime.verification import stored_cases

Network = qcomp.CompiledNetwork

FAST = qcomp.QuantizationConfig(recipe="fast")
BUILDS = ["Config.cmake", "ConfigVersion.cmake", ".pc", "_example.c", ".py"]
FILES = ["constants.npz", "graph.txt", "h", "manifest.json", "qdq.npz", "qdq.txt", "recipe.yaml"]
FILES += ["vectors.npz", "passes.json.gz"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.fixture
def copy(saved_dense: Path, tmp_path: Path) -> Path:
    """A saved network that may be spoiled."""
    return Path(shutil.copytree(saved_dense, tmp_path / "copy"))


def test_all_files_are_there_and_no_other(saved_dense: Path, cc: str) -> None:
    expected = {f"dense.{suffix}" for suffix in FILES} | {f"dense{suffix}" for suffix in BUILDS}
    expected |= {"libdense.a", "libdense.so", "libdense.so.1"}
    assert set(contents(saved_dense)) == expected
    assert [f.name for f in saved_dense.parent.iterdir()] == [saved_dense.name]


def test_a_loaded_network_gives_the_same_bits(dense: Network, saved_dense: Path) -> None:
    loaded = qcomp.load(str(saved_dense))
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    assert_array_equal(loaded(x), dense(x))
    assert_array_equal(loaded.specification(x), dense(x))
    assert str(loaded.graph) == str(dense.graph)
    assert (loaded.config, loaded.notes) == (dense.config, dense.notes)
    assert (loaded.inputs, loaded.outputs) == (dense.inputs, dense.outputs)
    assert loaded.artifact == dense.artifact


def test_the_manifest_names_the_sizes(dense: Network, saved_dense: Path) -> None:
    manifest = json.loads((saved_dense / "dense.manifest.json").read_text())
    assert manifest["run"] == "dense_run"
    assert manifest["arena_bytes"] == dense.arena_bytes
    assert manifest["inputs"][0]["shape"] == [1, 4]
    assert set(manifest["sha256"]) == set(contents(saved_dense)) - {"dense.manifest.json"}


def test_the_stored_vectors_are_what_the_library_answers(pair: Network, tmp_path: Path) -> None:
    loaded = qcomp.load(pair.save(tmp_path / "pair"))
    with np.load(tmp_path / "pair" / "pair.vectors.npz", allow_pickle=False) as vectors:
        count = len(vectors["input_0"])
        assert count >= 3
        for i in range(count):
            answers = loaded.run_integer((vectors["input_0"][i], vectors["input_1"][i]))
            for k, answer in enumerate(answers):
                assert_array_equal(answer, vectors[f"output_{k}"][i])


def test_two_builds_give_the_same_bytes(models: Any, tmp_path: Path) -> None:
    folders = []
    for name in ("first", "second"):
        data = models.samples(8, 1, 2, 6, 6)
        net = qcomp.compile(
            models.conv_with_batch_norm(), calibration=data, config=FAST, name="twice"
        )
        folders.append(contents(net.save(tmp_path / name / "out")))
    assert folders[0] == folders[1]


def test_saving_a_loaded_network_gives_the_same_code(saved_dense: Path, tmp_path: Path) -> None:
    again = contents(qcomp.load(saved_dense).save(tmp_path / "again"))
    first = contents(saved_dense)
    for file in ("libdense.a", "libdense.so", "dense.h", "dense.graph.txt", "dense.constants.npz"):
        assert again.get(file) == first.get(file)


@pytest.mark.parametrize("file", [f"dense.{s}" for s in FILES] + ["libdense.a", "libdense.so"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped"])
def test_a_damaged_directory_is_a_model_error(copy: Path, file: str, damage: str, cc: str) -> None:
    path = copy / file
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    if damage == "missing":
        path.unlink()
    else:
        changed = {"empty": b"", "cut": path.read_bytes()[:-7], "flipped": content}[damage]
        path.write_bytes(changed)
    with pytest.raises(qcomp.ModelError, match=r"manifest\.json"):
        qcomp.load(copy)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../dense"),
        ("library", "/lib/libc.so"),
        ("sha256", []),
        ("sha256", {}),
        ("sha256", {"../copy/dense.h": ""}),
        ("config", {"range": "exact"}),
        ("config", None),
        ("triple", 3),
        ("notes", None),
        ("sources", ["../dense.h"]),
    ],
)
def test_a_manifest_that_makes_no_sense_is_a_model_error(
    copy: Path, field: str, value: object
) -> None:
    edited(copy, lambda fields: fields.update({field: value}))
    with pytest.raises(qcomp.ModelError, match=r"dense\.manifest\.json"):
        qcomp.load(copy)


@pytest.mark.parametrize(
    "field", ["name", "library", "sha256", "config", "arena_bytes", "notes", "accuracy", "features"]
)
def test_a_manifest_without_a_field_is_a_model_error(copy: Path, field: str) -> None:
    edited(copy, lambda fields: fields.pop(field))
    with pytest.raises(qcomp.ModelError, match=f"incomplete or damaged.*{field}"):
        qcomp.load(copy)


@pytest.mark.parametrize("field", ["arena_bytes", "arena_align", "weights_bytes"])
@pytest.mark.parametrize("value", [0, 64, 1 << 40])
def test_sizes_are_the_librarys_own(copy: Path, field: str, value: int) -> None:
    """An arena that a manifest makes small would be written beyond."""
    right = read_manifest(copy / "dense.manifest.json")[field]
    edited(copy, lambda fields: fields.update({field: value}))
    if value == right:
        qcomp.load(copy)
        return
    with pytest.raises(qcomp.ModelError, match=f"of another build: {field} {right} for {value}"):
        qcomp.load(copy)


def test_a_graph_that_is_not_the_librarys_is_a_model_error(copy: Path) -> None:
    text = (copy / "dense.graph.txt").read_text()
    (copy / "dense.graph.txt").write_text(text.replace("graph @", "graph @not", 1))
    rehash(copy)
    with pytest.raises(qcomp.ModelError, match="of another build: model"):
        qcomp.load(copy)


def test_a_library_that_is_exchanged_after_it_was_loaded_does_not_run(
    saved_dense: Path, copy: Path, models: Any, cc: str
) -> None:
    loaded = qcomp.load(copy)
    data = [2 * a for a in models.samples(8, 1, 4)]
    qcomp.compile(models.dense(), calibration=data, config=FAST, name="dense").save(copy)
    with pytest.raises(qcomp.TargetError, match="not of the same build as the static one: model"):
        loaded(np.ones((1, 4), np.float32))


def test_a_manifest_that_was_edited_is_a_model_error(copy: Path) -> None:
    path = copy / "dense.manifest.json"
    path.write_text(path.read_text().replace('"dense.h"', '"dense.c"'))
    with pytest.raises(qcomp.ModelError, match="it was changed after it was written"):
        qcomp.load(copy)


def test_a_manifest_whose_checksum_was_taken_away_is_a_model_error(copy: Path) -> None:
    path = copy / "dense.manifest.json"
    fields = json.loads(path.read_text())
    assert fields.pop("checksum")
    path.write_text(json.dumps(fields))
    with pytest.raises(qcomp.ModelError, match="it was changed after it was written"):
        qcomp.load(copy)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "can't be read"),
        ("1" * 5000, "can't be read"),
        (" " * (1 << 25), "more than 16777216 bytes"),
        ('{"version": 1}', "not a manifest of version 2.* compiled again"),
        ("[]", "not a manifest of version 2"),
    ],
)
def test_a_manifest_of_any_text_is_a_model_error(copy: Path, text: str, reason: str) -> None:
    (copy / "dense.manifest.json").write_text(text)
    with pytest.raises(qcomp.ModelError, match=reason):
        qcomp.load(copy)


def test_a_manifest_is_a_regular_file(copy: Path) -> None:
    (copy / "dense.manifest.json").unlink()
    os.mkfifo(copy / "dense.manifest.json")
    with pytest.raises(qcomp.ModelError, match="not a regular file"):
        qcomp.load(copy)


@pytest.mark.parametrize("file", ["constants.npz", "qdq.npz", "vectors.npz"])
def test_arrays_of_which_any_byte_is_wrong_are_read_or_a_model_error(copy: Path, file: str) -> None:
    """Of what is sealed again, so that only the file's own form tells."""
    path = copy / f"dense.{file}"
    content = path.read_bytes()
    for at in (*range(0, 200, 7), *range(len(content) - 250, len(content), 3)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        try:
            net = qcomp.load(rehash(copy))
            assert net.qdq is not None
            stored_cases(net, copy)
        except qcomp.ModelError:
            continue


def test_a_directory_is_read_while_others_write_it(
    dense: Network, saved_dense: Path, tmp_path: Path
) -> None:
    """Now one network, now another of the same name: a reader finds either."""
    other = dataclasses.replace(dense, notes=("another",))
    dense.save(tmp_path / "out")
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            other.save(tmp_path / "out")
            dense.save(tmp_path / "out")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = {qcomp.load(tmp_path / "out").notes for _ in range(20)}
    finally:
        stop.set()
        writer.join()
    assert found <= {dense.notes, other.notes}


def test_a_directory_without_a_manifest(tmp_path: Path) -> None:
    message = r"expected one NAME\.manifest\.json, found none"
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(qcomp.ModelError, match=message):
            qcomp.load(folder)


def test_saving_into_a_directory_keeps_what_is_not_ours(dense: Network, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "dense.h").write_text("of an earlier build")
    dense.save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert "dense_run" in (tmp_path / "dense.h").read_text()
    assert not [f for f in tmp_path.iterdir() if f.name.startswith(".")]
    qcomp.load(tmp_path)


def test_a_network_saved_over_another_is_the_one_that_runs(models: Any, tmp_path: Path) -> None:
    x = np.ones((1, 4), np.float32)
    answers = []
    for factor in (1, -1):
        data = [factor * a for a in models.samples(8, 1, 4)]
        config = qcomp.QuantizationConfig(recipe="fast", symmetric_activations=factor < 0)
        net = qcomp.compile(models.dense(), calibration=data, config=config, name="over")
        loaded = qcomp.load(net.save(tmp_path / "out"))
        answers.append(loaded.run_integer(loaded.quantized(x)))
        assert_array_equal(answers[-1], net.specification_integer(net.quantized(x)))
    assert (answers[0] != answers[1]).any()


def test_a_directory_holds_one_network(dense: Network, pair: Network, tmp_path: Path) -> None:
    dense.save(tmp_path / "out")
    before = contents(tmp_path)
    with pytest.raises(qcomp.OutputError, match=r"out holds the network dense; expected another"):
        pair.save(tmp_path / "out")
    assert contents(tmp_path) == before


def test_a_link_to_a_directory_stays_a_link(dense: Network, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    dense.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "dense.h").is_file()


def test_missing_parents_are_made_and_permissions_follow_the_umask(
    dense: Network, tmp_path: Path
) -> None:
    before = os.umask(0o027)
    try:
        dense.save(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "b" / "c").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "a" / "b" / "c" / "dense.h").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("place", ["file", "file/out", "x" * 300, "new/" + "x" * 300])
def test_a_place_where_no_directory_can_be(dense: Network, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("here first")
    with pytest.raises(qcomp.OutputError, match="can't write"):
        dense.save(tmp_path / place)
    assert contents(tmp_path) == {"file": b"here first"}
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


def test_a_directory_that_must_not_be_written(dense: Network) -> None:
    with pytest.raises(qcomp.OutputError, match="can't write"):
        dense.save("/proc/qcomp/out")


@pytest.mark.parametrize("limit", [100, 1500, 3000])
@pytest.mark.parametrize("exists", [False, True])
def test_a_full_disk_leaves_the_place_as_it_was(
    saved_dense: Path, tmp_path: Path, limit: int, exists: bool
) -> None:
    out = tmp_path / "parent" / "out"
    if exists:
        shutil.copytree(saved_dense, out)
    before, entries = contents(tmp_path), set(tmp_path.rglob("*"))
    net = qcomp.load(saved_dense)
    with limited_files(limit), pytest.raises(qcomp.CompileError, match="can't"):
        net.save(out)
    assert contents(tmp_path) == before
    assert set(tmp_path.rglob("*")) == entries


def test_origins_come_back_with_their_scales(models: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    spread = np.exp(random.normal(0, 2, (1, 12)))
    constants = {
        "w": (random.normal(size=(4, 12)) * spread).astype(np.float32),
        "v": random.normal(size=(12, 3)).astype(np.float32),
    }
    nodes = [models.node("MatMul", ["x", "w"], ["h"]), models.node("MatMul", ["h", "v"], ["y"])]
    model = models.build(nodes, {"x": [1, 4]}, {"y": [1, 3]}, constants)
    config = qcomp.QuantizationConfig(recipe="fast", per_channel=False, equalize=True)
    net = qcomp.compile(
        model, calibration=models.samples(4, 1, 4), config=config, name="net", target="avx2"
    )
    loaded = qcomp.load(net.save(tmp_path / "net"))
    assert " scale=@12" in str(net.graph)
    assert str(loaded.graph) == str(net.graph)
    scales = [
        next(t.origin.scale for t in graph.tensors() if t.origin and t.origin.name == "h")
        for graph in (net.graph, loaded.graph)
    ]
    assert_array_equal(scales[0], scales[1])
    assert len(set(scales[0])) == 12
