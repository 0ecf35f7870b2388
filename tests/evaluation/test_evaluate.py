"""Networks on labelled data: the figures are those that numpy gives of the outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qcomp
from qcomp.errors import CalibrationError


@pytest.fixture(scope="module")
def data(examples: Path) -> dict[str, Any]:
    with np.load(examples / "digits_test.npz") as file:
        return {"image": file["images"][:40], "labels": file["labels"][:40]}


@pytest.fixture(scope="module")
def float_outputs(examples: Path, data: dict[str, Any]) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(examples / "digits.onnx")
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: x[None]})[0] for x in data["image"]])


def test_both_networks_have_the_figures_of_their_outputs(
    digits: Path, examples: Path, data: dict[str, Any], float_outputs: Any
) -> None:
    net, labels = qcomp.load(digits), data["labels"]
    outputs = net(data["image"])
    found = net.evaluate(data["image"], labels, model=examples / "digits.onnx")
    assert found.samples == 40
    assert found.of_float is not None
    assert found.of_integer is not None
    assert found.of_float.top1 == np.mean(float_outputs.argmax(1) == labels)
    assert found.of_integer.top1 == np.mean(outputs.argmax(1) == labels)
    five = np.argsort(-outputs, axis=1, kind="stable")[:, :5]
    assert found.of_integer.top5 == np.mean((five == labels[:, None]).any(1))
    assert found.agreement == np.mean(outputs.argmax(1) == float_outputs.argmax(1))
    noise = np.sum((outputs - float_outputs) ** 2, dtype=np.float64)
    (output,) = found.outputs
    expected = 10 * np.log10(np.sum(float_outputs.astype(np.float64) ** 2) / noise)
    assert output.sqnr_db == pytest.approx(expected, abs=1e-3)
    ratios = np.sum(float_outputs**2, axis=1) / np.sum((outputs - float_outputs) ** 2, axis=1)
    worst = found.worst[0]
    assert worst.name == f"sample {ratios.argmin()}"
    assert worst.label == labels[ratios.argmin()]
    assert worst.sqnr_db == pytest.approx(10 * np.log10(ratios.min()), abs=1e-3)
    assert "agreement" in str(found)


def test_one_network_alone_and_data_without_labels(
    digits: Path, examples: Path, data: dict[str, Any]
) -> None:
    model = examples / "digits.onnx"
    alone = qcomp.evaluate(model, None, data["image"], data["labels"])
    assert alone.of_integer is None
    assert alone.agreement is None
    assert alone.of_float is not None
    assert alone.of_float.top1 is not None
    unlabelled = qcomp.evaluate(model, qcomp.load(digits), data["image"][:9], worst=2)
    assert unlabelled.agreement == 1.0
    assert len(unlabelled.worst) == 2
    assert unlabelled.of_float is not None
    assert unlabelled.of_float.top1 is None
    assert "no labels" in unlabelled.notes[0]


def test_batches_hold_as_many_samples_as_single_runs(
    digits: Path, examples: Path, data: dict[str, Any]
) -> None:
    model, labels = examples / "digits.onnx", data["labels"]
    single = qcomp.evaluate(model, None, data["image"], labels)
    batched = qcomp.evaluate(model, None, list(data["image"]), labels, bind={"N": 4})
    assert batched.samples == 40
    assert batched == single


def test_a_metric_of_the_callers_own_has_all_outputs_and_labels(
    digits: Path, data: dict[str, Any]
) -> None:
    def metric(outputs: Any, labels: Any) -> dict[str, float]:
        return {"mean": outputs.mean(), "labels": len(labels)}

    net = qcomp.load(digits)
    found = net.evaluate(data["image"], data["labels"], metric=metric)
    assert found.of_integer is not None
    assert found.of_integer.metric["mean"] == pytest.approx(net(data["image"]).mean(), abs=1e-5)
    assert found.of_integer.metric["labels"] == 40


def test_what_does_not_fit_is_named(digits: Path, examples: Path, data: dict[str, Any]) -> None:
    net = qcomp.load(digits)
    with pytest.raises(CalibrationError, match="39 labels for 40 samples"):
        net.evaluate(data["image"], data["labels"][:39])
    with pytest.raises(CalibrationError, match="nothing to evaluate"):
        qcomp.evaluate(None, None, data["image"])
    with pytest.raises(CalibrationError, match="expected the model that it was compiled from"):
        qcomp.evaluate(examples / "digits.onnx", net, data["image"], bind={"N": 2})
    with pytest.raises(CalibrationError, match=r"labels 0 to 9 for 10 outputs"):
        net.evaluate(data["image"], data["labels"], label_offset=1)
