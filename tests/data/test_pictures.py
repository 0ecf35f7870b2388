"""Pictures become inputs as the record says, one at a time, and recipes keep the record."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import qcomp
from qcomp.calibration.samples import Samples
from qcomp.errors import CalibrationError
from qcomp.ir.tensor import DType, TensorType
from qcomp.preprocessing import Preprocessing, plain, read
from qcomp.recipes.file import read_recipe, recipe_text

pillow = pytest.importorskip("PIL.Image")

NCHW = {"image": TensorType(DType.F32, (1, 3, 4, 4))}
NHWC = {"image": TensorType(DType.F32, (1, 4, 4, 3))}
GRAY = {"image": TensorType(DType.F32, (2, 1, 4, 4))}


def picture(height: int = 4, width: int = 4, seed: int = 0) -> Any:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return pillow.fromarray(pixels)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(6):
        folder = tmp_path / "photos" / f"class{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        picture(seed=i).save(folder / f"{i}.png")
    (tmp_path / "photos" / "readme.txt").write_text("no picture")
    (tmp_path / "photos" / ".hidden.png").write_text("no picture")
    return tmp_path / "photos"


def values(source: Any, inputs: Any = NCHW, **options: Any) -> Any:
    return [run["image"] for run in Samples(source, inputs, **options)]


def failure(source: Any, inputs: Any = NCHW, **options: Any) -> str:
    with pytest.raises(CalibrationError) as error:
        list(Samples(source, inputs, **options))
    return str(error.value)


def test_values_are_what_the_record_says() -> None:
    pixels = np.asarray(picture(), np.float64)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (pixels / 255 - mean) / std
    how = {"mean": tuple(mean), "std": tuple(std)}
    (nchw,) = values(qcomp.data.images([picture()], **how))
    assert_allclose(nchw[0], expected.transpose(2, 0, 1), atol=1e-5)
    (nhwc,) = values(qcomp.data.images([picture()], **how), NHWC)
    assert_allclose(nhwc[0], expected, atol=1e-5)
    (bgr,) = values(qcomp.data.images([picture()], channels="bgr", white=255), NHWC)
    assert_array_equal(bgr[0], pixels[..., ::-1].astype(np.float32))


def test_pixels_have_the_factors_and_offsets_that_a_library_folds() -> None:
    how = Preprocessing(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0)).fitted((1, 3, 4, 4))
    factors, offsets = (np.array(v, np.float32).reshape(3, 1, 1) for v in how.affine())
    pixels = np.asarray(picture(), np.float32).transpose(2, 0, 1)
    (value,) = values([picture()], preprocessing=how)
    assert_array_equal(value[0], pixels * factors + offsets)


def test_the_shorter_side_is_resized_and_the_middle_cut_out() -> None:
    image = picture(8, 16)
    (default,) = values([image])
    small = image.resize((8, 4), pillow.Resampling.BILINEAR).crop((2, 0, 6, 4))
    expected = np.asarray(small, np.float32).transpose(2, 0, 1) / 255
    assert_allclose(default[0], expected, atol=1e-6)
    (cut,) = values(qcomp.data.images([image], resize=8, crop=4))
    expected = np.asarray(image.crop((6, 2, 10, 6)), np.float32).transpose(2, 0, 1) / 255
    assert_allclose(cut[0], expected, atol=1e-6)
    (both,) = values(qcomp.data.images([image], resize=(4, 4)))
    squeezed = np.asarray(image.resize((4, 4), pillow.Resampling.BILINEAR), np.float32)
    assert_allclose(both[0], squeezed.transpose(2, 0, 1) / 255, atol=1e-6)


def test_a_folder_is_read_with_all_below_it_and_gathered_to_batches(photos: Path) -> None:
    runs = values(photos, GRAY)
    assert [run.shape for run in runs] == [(2, 1, 4, 4)] * 3
    order = [*(photos / "class0").iterdir(), *(photos / "class1").iterdir()]
    first = np.asarray(pillow.open(sorted(order)[0]).convert("L"), np.float32) / 255
    assert_allclose(runs[0][0, 0], first, atol=1e-6)


def test_samples_are_spread_over_a_folder_and_the_share_is_told(photos: Path) -> None:
    samples = Samples(photos, NCHW, samples=3)
    assert samples.expected == 3
    files = [photos / "class0" / "0.png", photos / "class0" / "4.png", photos / "class1" / "3.png"]
    assert_array_equal(np.concatenate([r["image"] for r in samples]), np.concatenate(values(files)))
    assert samples.notes[0] == "calibration data: 3 of 6 pictures, evenly spread"
    assert "pictures are taken as rgb, 4 x 4, white 1, mean 0, std 1" in samples.notes[1]
    assert Samples(photos, NCHW, preprocessing=Preprocessing(white=255.0)).notes == ()


def test_rows_of_data_sets_and_functions_of_pictures_are_taken() -> None:
    rows = [{"image": picture(seed=i), "label": i} for i in range(3)]
    direct = values([row["image"] for row in rows])
    assert_array_equal(values(qcomp.data.images(rows)), direct)
    assert_array_equal(values(qcomp.data.images([(r["image"], r["label"]) for r in rows])), direct)

    def halved(image: Any) -> Any:
        return np.asarray(image, np.float32).transpose(2, 0, 1) / 510

    doubled = values(qcomp.data.images(rows, transform=halved))
    assert_allclose(np.array(doubled) * 2, direct, atol=1e-6)
    mapped = qcomp.data.samples(rows, transform=lambda row: 2 * halved(row["image"]))
    assert_allclose(values(mapped), direct, atol=1e-6)
    assert "row 0: no column 'photo' among image, label" in failure(
        qcomp.data.images(rows, column="photo")
    )


def test_memory_does_not_grow_with_the_pictures(tmp_path: Path) -> None:
    inputs = {"image": TensorType(DType.F32, (1, 3, 64, 64))}
    file = tmp_path / "p.png"
    picture(64, 64).save(file)

    def peak(count: int) -> int:
        samples = Samples(qcomp.data.images([file] * count), inputs)
        tracemalloc.start()
        try:
            assert sum(1 for _ in samples) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2)
    assert peak(60) < peak(6) + 3 * 64 * 64 * 4


def test_what_does_not_fit_is_named(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    assert "broken.jpg: can't be read as a picture" in failure(tmp_path / "broken.jpg")
    assert "no such file" in failure([tmp_path / "nowhere.png"])
    wide = {"image": TensorType(DType.F32, (1, 12, 4, 4))}
    assert "(1, 12, 4, 4) is no image of 1 or 3 channels" in failure(photos, wide)
    both = {"image": TensorType(DType.F32, (1, 3, 4, 3))}
    assert "may be NCHW or NHWC; say which" in failure(photos, both)
    two = {**NCHW, "other": NCHW["image"]}
    assert "pictures are for networks of one input" in failure(photos, two)
    crop = Preprocessing(crop=5)
    assert "crop=5: input image holds 4 x 4" in failure(photos, preprocessing=crop)
    small = Preprocessing(resize=3)
    assert "resize=3 is smaller than the 4 x 4" in failure(photos, preprocessing=small)


@pytest.mark.parametrize(
    "fields",
    [
        {"std": 0.0},
        {"mean": (1.0, 2.0)},
        {"channels": "cmyk"},
        {"layout": "CHW"},
        {"white": -1.0},
        {"crop": 0},
        {"mean": float("nan")},
    ],
)
def test_a_record_that_means_nothing_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(CalibrationError, match=next(iter(fields))):
        Preprocessing(**fields)


def test_recipes_keep_the_record(tmp_path: Path) -> None:
    how = Preprocessing(mean=(0.5,), std=(0.25,), channels="bgr").fitted((1, 3, 224, 224))
    assert read(plain(how)) == how
    config = qcomp.QuantizationConfig(preprocessing=how)
    (tmp_path / "r.yaml").write_text(recipe_text(config))
    assert read_recipe(tmp_path / "r.yaml").preprocessing == how
    with pytest.raises(CalibrationError, match="expected some of resize, crop"):
        read({"scale": 1})


def test_a_compilation_keeps_how_its_pictures_became_inputs(examples: Path, tmp_path: Path) -> None:
    with np.load(examples / "digits_test.npz") as data:
        digits = data["images"][:8, 0]
    for i, digit in enumerate(digits):
        pillow.fromarray(np.rint(digit * 255).astype(np.uint8)).save(tmp_path / f"{i}.png")
    net = qcomp.compile(examples / "digits.onnx", calibration=tmp_path, recipe="fast")
    expected = Preprocessing(channels="gray", layout="nchw", resize=8, crop=(8, 8))
    assert net.config.preprocessing == expected
    assert any("pictures are taken as gray, 8 x 8" in note for note in net.notes)
    assert qcomp.load(net.save(tmp_path / "out")).config.preprocessing == expected
