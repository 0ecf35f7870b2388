"""Calibration data from every accepted source, and a clear error for everything else."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from qcomp.calibration.data import Source, expected_runs, open_calibration
from qcomp.errors import CalibrationError
from qcomp.ir import DType, TensorType

ONE = {"image": TensorType(DType.F32, (1, 2, 3))}
BATCH = {"image": TensorType(DType.F32, (4, 2, 3))}
TWO = {"a": TensorType(DType.F32, (1, 2)), "b": TensorType(DType.F32, (1, 3))}
DATA = np.arange(48, dtype=np.float32).reshape(8, 2, 3)


def images(source: Source, inputs: dict[str, TensorType] = ONE) -> NDArray[Any]:
    """All runs joined along the first axis; each must be exactly of the graph's type."""
    runs = [run["image"] for run in open_calibration(source, inputs)]
    for run in runs:
        assert run.shape == inputs["image"].shape
        assert run.dtype == np.float32
    return np.concatenate(runs)


def failure(source: Any, inputs: dict[str, TensorType] = ONE) -> str:
    with pytest.raises(CalibrationError) as error:
        list(open_calibration(source, inputs))
    return str(error.value)


# ----------------------------------------------------------------------- accepted


@pytest.mark.parametrize("inputs", [ONE, BATCH], ids=["batch 1", "batch 4"])
def test_the_first_axis_of_one_array_counts_samples(inputs: dict[str, TensorType]) -> None:
    assert_array_equal(images(DATA, inputs), DATA)


@pytest.mark.parametrize(
    "items",
    [
        list(DATA),
        list(DATA[:, None]),
        [DATA[:3], DATA[3:]],
        [{"image": x} for x in DATA],
        [(x,) for x in DATA],
        [DATA[:5], DATA[5], {"image": DATA[6:]}],
    ],
    ids=["samples", "batches of one", "batches", "dicts", "tuples", "mixed"],
)
def test_an_iterable_may_hold_samples_batches_dicts_or_tuples(items: list[Any]) -> None:
    assert_array_equal(images(items), DATA)


def test_a_generator_is_read_once_and_lazily() -> None:
    taken = []

    def source() -> Iterator[NDArray[Any]]:
        for i, x in enumerate(DATA):
            taken.append(i)
            yield x

    runs = open_calibration(source(), ONE)
    assert taken == []
    next(runs)
    assert taken == [0]
    assert len(list(runs)) == 7


def test_several_inputs_come_as_dicts_tuples_or_a_dict_of_arrays() -> None:
    a, b = np.ones((5, 2), np.float32), np.zeros((5, 3), np.float32)
    for source in (
        {"b": b, "a": a},
        [{"a": a[0], "b": b[0]}, {"a": a[1:], "b": b[1:]}],
        [(a, b)],
    ):
        runs = list(open_calibration(source, TWO))
        assert len(runs) == 5
        assert [(r["a"].shape, r["b"].shape) for r in runs] == [((1, 2), (1, 3))] * 5


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.uint8, np.int64, ">f4"])
def test_floats_and_integers_are_converted_and_not_scaled(dtype: str) -> None:
    assert_array_equal(images(DATA.astype(dtype)), DATA)


def test_truth_values_are_0_and_1() -> None:
    assert_array_equal(images(DATA > 20), (DATA > 20).astype(np.float32))


@pytest.mark.parametrize("inputs", [ONE, BATCH], ids=["batch 1", "batch 4"])
def test_npy_and_npz_files_hold_samples_along_the_first_axis(
    tmp_path: Path, inputs: dict[str, TensorType]
) -> None:
    np.save(tmp_path / "c.npy", DATA)
    np.savez(tmp_path / "named.npz", image=DATA, other=DATA[0, 0])
    np.savez_compressed(tmp_path / "only.npz", DATA)
    for name in ("c.npy", "named.npz", "only.npz"):
        assert_array_equal(images(tmp_path / name, inputs), DATA)
        assert_array_equal(images(str(tmp_path / name), inputs), DATA)


def test_an_array_in_fortran_order_is_read_as_it_was_meant(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.asfortranarray(DATA))
    assert_array_equal(images(tmp_path / "f.npy"), DATA)
    np.save(tmp_path / "one.npy", np.asfortranarray(DATA[0]))
    assert_array_equal(images(tmp_path / "one.npy")[0], DATA[0])


def test_a_directory_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    np.save(tmp_path / "2.npy", DATA[1:3])
    np.save(tmp_path / "1.npy", DATA[0])
    np.savez(tmp_path / "3.npz", DATA[3:])
    (tmp_path / "labels.txt").write_text("7")
    assert_array_equal(images(tmp_path), DATA)


def test_several_inputs_come_from_one_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", b=np.zeros((3, 3)), a=np.ones((3, 2)))
    runs = list(open_calibration(tmp_path / "x.npz", TWO))
    assert len(runs) == 3
    assert_array_equal(runs[2]["a"], np.ones((1, 2)))


@pytest.mark.parametrize("name", ["big.npy", "big.npz"])
def test_a_large_file_is_never_in_memory_as_a_whole(tmp_path: Path, name: str) -> None:
    inputs = {"x": TensorType(DType.F32, (1, 10_000))}
    save = np.save if name.endswith(".npy") else np.savez
    save(tmp_path / name, np.zeros((500, 10_000), np.float32))
    tracemalloc.start()
    try:
        assert sum(1 for _ in open_calibration(tmp_path / name, inputs)) == 500
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def test_the_number_of_runs_is_known_where_the_source_tells(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", DATA[0])
    assert expected_runs(DATA, BATCH) == 2
    assert expected_runs(list(DATA), ONE) == 8
    assert expected_runs(tmp_path, ONE) == 1
    assert expected_runs(iter(DATA), ONE) is None
    assert expected_runs(tmp_path / "1.npy", ONE) is None


# ------------------------------------------------------------------------ refused


def test_a_wrong_shape_names_the_item_and_what_fits() -> None:
    message = failure([DATA[0], DATA[0].T])
    assert message == (
        "calibration item 1, input image: shape (3, 2); expected (N, 2, 3) or one sample (2, 3)"
    )
    assert "(N, 2, 3) with N a multiple of 4" in failure(DATA[:1, :, :2], BATCH)


def test_samples_are_gathered_to_batches_and_what_is_left_over_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    np.save(tmp_path / "6.npy", DATA[:6])
    for source in (DATA[:6], list(DATA[:6]), tmp_path, [DATA[:3], DATA[3], DATA[4:6, :]]):
        told.clear()
        (run,) = open_calibration(source, BATCH, told.append)
        assert_array_equal(run["image"], DATA[:4])
        assert told == ["the last 2 samples left out: a run takes 4"]
    (*runs,) = open_calibration([DATA[:3], DATA[3:7], DATA[7]], BATCH, told.append)
    assert_array_equal(np.concatenate([run["image"] for run in runs]), DATA)
    assert len(told) == 1


def test_fewer_samples_than_a_batch_are_refused() -> None:
    assert "calibration data has 1 sample; a run of the graph takes 4" in failure(DATA[0], BATCH)
    assert "has 3 samples" in failure(list(DATA[:3]), BATCH)


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (5, 4, 3, 3)])
def test_images_of_the_other_layout_are_refused_with_the_transposition(
    shape: tuple[int, ...],
) -> None:
    image = {"image": TensorType(DType.F32, (1, 3, 5, 4))}
    told = "; images of another layout, NHWC: transpose(0, 3, 1, 2) them"
    assert failure(np.zeros(shape), image).endswith(told) == (shape == (2, 5, 4, 3))
    assert "HWC: transpose(2, 0, 1) them" in failure(np.zeros((5, 4, 3)), image)


@pytest.mark.parametrize("dtype", ["complex64", "U3", "object", "M8[s]"])
def test_element_types_that_are_no_numbers_are_refused(dtype: str) -> None:
    message = failure(np.zeros((1, 2, 3)).astype(dtype))
    assert "calibration data, input image: element type" in message
    assert "expected floats or integers" in message


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_numbers_that_are_not_finite_as_f32_are_refused(bad: float) -> None:
    x = DATA.astype(np.float64)
    x[5, 1, 1] = bad
    assert "input image, batch 5: NaN or infinity as f32" in failure(x)


@pytest.mark.parametrize("source", [[], iter(()), np.zeros((0, 2, 3), np.float32)])
def test_no_data_at_all_is_refused(source: Any) -> None:
    assert "empty" in failure(source)


def test_items_that_are_no_arrays_are_refused_by_type() -> None:
    assert "item 0, input image: expected a numpy array, got str" in failure(["cat.mp4"])
    assert "item 0: 2 arrays for 1 inputs" in failure([[1, 2]])
    assert "calibration data is a int; expected an iterable" in failure(7)


def test_missing_and_unknown_inputs_are_named() -> None:
    a, b = np.ones((1, 2)), np.ones((1, 3))
    assert "item 0: no array for input b" in failure([{"a": a}], TWO)
    assert "no input is named c; expected a: f32[1,2]" in failure([{"a": a, "b": b, "c": b}], TWO)
    assert "item 0: 1 arrays for 2 inputs" in failure([(a,)], TWO)
    assert "item 0: one ndarray for 2 inputs; expected a dict" in failure([a], TWO)


def test_inputs_must_agree_in_their_number_of_samples() -> None:
    message = failure({"a": np.ones((4, 2)), "b": np.ones((3, 3))}, TWO)
    assert "inputs differ in their number of batches: a has 4, b has 3" in message


def test_files_that_are_missing_unknown_or_unfit_are_named(tmp_path: Path) -> None:
    assert "nowhere: does not exist; expected" in failure(tmp_path / "nowhere")
    assert "can't be read" in failure("n" * 5000)
    assert "no .npy or .npz file in it" in failure(tmp_path)
    (tmp_path / "cat.mp4").write_bytes(b"mp4")
    assert "cat.mp4: unknown kind of file" in failure(tmp_path / "cat.mp4")
    np.save(tmp_path / "a.npy", np.ones((1, 2)))
    assert "a.npy: one array for 2 inputs; expected an .npz" in failure(tmp_path / "a.npy", TWO)
    np.savez(tmp_path / "b.npz", x=DATA, y=DATA)
    assert "b.npz: no array for input image; it has x, y" in failure(tmp_path / "b.npz")


def test_an_array_of_another_name_is_refused_with_how_to_name_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", images=DATA, labels=np.arange(8))
    told = failure(tmp_path / "c.npz")
    assert "no array for input image; it has images, labels" in told
    assert "numpy.savez(..., image=images)" in told


def test_labels_and_other_extra_arrays_are_left_out_and_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=DATA, labels=np.arange(8), mask=DATA)
    labels = np.arange(8)
    sources: dict[str, Any] = {
        "d.npz: labels, mask left out": tmp_path / "d.npz",
        "the last value of each item left out: a label": [
            (x, y) for x, y in zip(DATA, labels, strict=True)
        ],
        "labels of each item left out": [{"image": DATA, "labels": labels}],
    }
    sources["the last value"] = [[DATA, labels]]
    for expected, source in sources.items():
        told: list[str] = []
        runs = open_calibration(source, ONE, told.append)
        assert_array_equal(np.concatenate([run["image"] for run in runs]), DATA)
        assert expected in told[0]
    assert "item 0: 2 arrays for 1 inputs" in failure([(DATA, DATA)])


class Reader:
    """As quantizers of onnxruntime read their data."""

    def __init__(self) -> None:
        self._feeds = iter([{"image": x[None]} for x in DATA])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


class Tensor:
    """As torch has them: what has a gradient or is on a device is no array yet."""

    def __init__(self, value: NDArray[Any]) -> None:
        self._value = value

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> NDArray[Any]:
        return self._value

    def __array__(self, *_: Any) -> NDArray[Any]:
        raise RuntimeError("can't convert a tensor that requires grad")


@pytest.mark.parametrize(
    "source",
    [Reader(), lambda: iter(DATA), [(Tensor(x), 3) for x in DATA], [Tensor(DATA[:5]), DATA[5:]]],
    ids=["a reader of onnxruntime", "a callable", "a loader of torch", "tensors"],
)
def test_loaders_of_others_are_read_as_they_are(source: Any) -> None:
    assert_array_equal(images(source), DATA)


def test_a_number_of_samples_limits_what_is_read() -> None:
    runs = list(open_calibration(list(DATA), ONE, samples=3))
    assert len(runs) == 3
    assert len(list(open_calibration(DATA, BATCH, samples=5))) == 1
    assert expected_runs(DATA, ONE, 3) == 3


@pytest.mark.parametrize("keep", [0, 5, 64, 150, 250])
@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_truncated_files_are_refused(tmp_path: Path, name: str, keep: int) -> None:
    path = tmp_path / name
    (np.save if name.endswith(".npy") else np.savez)(path, DATA)
    path.write_bytes(path.read_bytes()[:keep])
    assert f"{name}: can't be read" in failure(path)


def test_a_damaged_npz_entry_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, image=np.random.default_rng(0).normal(size=(8, 2, 3)))
    data = bytearray(path.read_bytes())
    data[200:220] = bytes(20)
    path.write_bytes(data)
    assert "x.npz: can't be read" in failure(path)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}]), allow_pickle=True)
    assert "it holds Python objects; expected numbers" in failure(tmp_path / "x.npy")


def test_a_shape_of_anything_but_whole_numbers_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((8, 1, 2, 2), np.float32))
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content.replace(b"(8, 1, 2, 2)", b"(True, 1, 2)"))
    assert "its shape is (True, 1, 2)" in failure(tmp_path / "x.npy")


def test_a_header_of_anything_but_text_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((8, 1, 2, 2), np.float32))
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content.replace(b" 'shape'", b"b'shape'"))
    assert "its header is damaged" in failure(tmp_path / "x.npy")
