"""Labels become outputs, and those of which nothing says which output they are, are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcomp.errors import CalibrationError
from qcomp.evaluation.labelled import Labelled, labelled
from qcomp.evaluation.labels import Classes, flat_labels, read_labels


def test_numbers_are_outputs_and_the_offset_is_added() -> None:
    assert Classes().outputs([0, np.int64(3), "2"], 4) == [0, 3, 2]
    assert Classes(offset=1).outputs([0, 3], 5) == [1, 4]
    with pytest.raises(CalibrationError, match="labels 0 to 4 for 4 outputs"):
        Classes().outputs([0, 4], 4)


def test_names_are_in_their_order_where_there_is_one_for_each_output(tmp_path: Path) -> None:
    assert Classes().outputs(["dog", "cat", "dog"], 2) == [1, 0, 1]
    (tmp_path / "names.txt").write_text("dog\ncat,a small tiger\n\nbird\n")
    assert Classes.of(tmp_path / "names.txt").outputs(["cat", "bird"], 3) == [1, 2]
    with pytest.raises(
        CalibrationError, match=r"2 classes .* for 4 outputs; expected one for each"
    ):
        Classes().outputs(["dog", "cat"], 4)
    with pytest.raises(CalibrationError, match="for 3 outputs: give label_offset=1"):
        Classes().outputs(["dog", "cat"], 3)
    with pytest.raises(CalibrationError, match="class 'fish' is none of the 3 names"):
        Classes.of(tmp_path / "names.txt").outputs(["fish"], 3)


def test_lists_of_labels_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x y.jpg 3\nb.jpg 1\n")
    assert read_labels(tmp_path / "a.txt") == (["x y.jpg", "b.jpg"], ["3", "1"])
    (tmp_path / "b.csv").write_text("a.jpg,cat\nb.jpg,dog\n")
    assert read_labels(tmp_path / "b.csv") == (["a.jpg", "b.jpg"], ["cat", "dog"])
    np.save(tmp_path / "c.npy", np.array([[3], [1]]))
    assert read_labels(tmp_path / "c.npy") == ([], [3, 1])
    (tmp_path / "d.txt").write_text("1\na.jpg 1\n")
    with pytest.raises(CalibrationError, match="expected lines of a label, or of a file"):
        read_labels(tmp_path / "d.txt")
    with pytest.raises(CalibrationError, match=r"e\.txt: can't be read"):
        read_labels(tmp_path / "e.txt")


def test_arrays_of_labels_are_numbers_or_a_single_1_among_zeros() -> None:
    assert flat_labels(np.eye(3)[[2, 0]], "y") == [2, 0]
    assert flat_labels(np.array([2.0, 1.0]), "y") == [2.0, 1.0]
    for wrong in (np.zeros((2, 3)) + 0.5, np.array([0.5]), np.zeros((1, 2, 2))):
        with pytest.raises(CalibrationError, match="labels"):
            flat_labels(wrong, "y")


def folder(tmp_path: Path) -> Path:
    for name in ("cat/1.png", "cat/deep/2.png", "dog/3.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"")
    return tmp_path / "photos"


def of(data: Any, labels: Any = None, **options: Any) -> Labelled:
    return labelled(data, labels, ["x"], **options)


def test_the_first_folder_on_the_way_is_the_class(tmp_path: Path) -> None:
    photos = folder(tmp_path)
    found = of(photos)
    assert found.labels == ["cat", "cat", "dog"]
    assert found.names == ("cat/1.png", "cat/deep/2.png", "dog/3.png")
    assert of(photos, samples=2).labels == ["cat", "cat"]
    (photos / "stray.png").write_bytes(b"")
    assert of(photos).labels == []


def test_a_list_names_files_or_has_a_label_for_each(tmp_path: Path) -> None:
    photos = folder(tmp_path)
    (tmp_path / "list.txt").write_text("dog/3.png 7\ncat/1.png 5\n")
    found = of(photos, tmp_path / "list.txt")
    assert [path.name for path in found.source] == ["3.png", "1.png"]
    assert found.labels == ["7", "5"]
    assert of(photos, [1, 1, 0]).labels == [1, 1, 0]
    with pytest.raises(CalibrationError, match="2 labels for 3 files"):
        of(photos, [1, 0])
    (tmp_path / "list.txt").write_text("nowhere.png 7\n")
    with pytest.raises(CalibrationError, match=r"nowhere\.png: no such file"):
        of(photos, tmp_path / "list.txt")


X = np.arange(12, dtype=np.float32).reshape(4, 3)
Y = np.array([3, 2, 1, 0])


def loader() -> Iterator[Any]:
    for i in (0, 2):
        yield X[i : i + 2], Y[i : i + 2]


@pytest.mark.parametrize("kind", ["a loader", "a function", "rows", "an npz", "arrays"])
def test_labels_beside_samples_are_kept_for_them(kind: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", pictures=X, labels=Y)
    sources: dict[str, Any] = {
        "a loader": (loader(), None),
        "a function": (loader, None),
        "rows": ([{"x": x, "label": y} for x, y in zip(X, Y, strict=True)], None),
        "an npz": (tmp_path / "d.npz", None),
        "arrays": (X, Y),
    }
    found = of(*sources[kind])
    items = found.source() if callable(found.source) else found.source
    read = [item["x"] if isinstance(item, dict) else item for item in items]
    values = [np.asarray(v[0] if isinstance(v, tuple) else v).reshape(-1, 3) for v in read]
    assert np.array_equal(np.concatenate(values), X)
    assert found.labels == list(Y)


def test_a_python_file_has_data_and_a_metric(tmp_path: Path) -> None:
    program = tmp_path / "mine.py"
    program.write_text(
        "def data():\n    return [([1.0], 2)]\n\n"
        "def metric(outputs, labels):\n    return len(labels)\n"
    )
    found = of(program)
    assert found.metric is not None
    assert found.metric(None, [1, 2]) == 2
    program.write_text("metric = 3\n")
    with pytest.raises(CalibrationError, match=r"mine\.py: defines no `data`"):
        of(program)
    program.write_text("data = []\nmetric = 3\n")
    with pytest.raises(CalibrationError, match="`metric` is no function"):
        of(program)
