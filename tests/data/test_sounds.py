"""Sounds become inputs of waves, or what a function makes of them."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import qcomp
from qcomp.calibration.samples import Samples
from qcomp.errors import CalibrationError
from qcomp.ir.tensor import DType, TensorType

pytest.importorskip("soundfile")

WAVE = {"wave": TensorType(DType.F32, (1, 1, 8))}


def written(path: Path, values: Any, rate: int = 16000, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.asarray(values, "<i2").tobytes())
    return path


def read(source: Any, inputs: Any = WAVE) -> Any:
    return [run["wave"] for run in Samples(source, inputs)]


def test_a_folder_of_sounds_is_read_as_waves_of_the_inputs_length(tmp_path: Path) -> None:
    written(tmp_path / "a.wav", [16384] * 4)
    written(tmp_path / "b.wav", [[-32768, 0]] * 10, channels=2)
    short, long = read(tmp_path)
    assert_allclose(short, [[[0.5] * 4 + [0.0] * 4]])
    assert_allclose(long, [[[-0.5] * 8]])


def test_a_function_makes_features_of_waves(tmp_path: Path) -> None:
    written(tmp_path / "a.wav", [16384] * 4)
    features = {"wave": TensorType(DType.F32, (1, 2, 2))}
    source = qcomp.data.sounds(tmp_path, transform=lambda x, rate: x.reshape(2, 2) * rate)
    assert_allclose(read(source, features), [[[[8000.0, 8000.0]] * 2]])


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    written(tmp_path / "a.wav", [0] * 4)
    written(tmp_path / "b.wav", [0] * 4, rate=8000)
    with pytest.raises(CalibrationError, match=r"b\.wav: 8000 samples per second, expected 16000"):
        read(tmp_path)
    with pytest.raises(CalibrationError, match=r"\(1, 2, 4\) is no wave; give .* a transform"):
        read(tmp_path / "a.wav", {"wave": TensorType(DType.F32, (1, 2, 4))})
    (tmp_path / "c.wav").write_text("no sound")
    with pytest.raises(CalibrationError, match=r"c\.wav: can't be read as a sound"):
        read(tmp_path / "c.wav")
