"""Each pass and choice is made otherwise, and what costs accuracy or exactness is named."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import qcomp
from qcomp.cli.bisect import told
from qcomp.config import QuantizationConfig
from qcomp.debug.bisect import bisect
from qcomp.debug.bisection import Bisection
from qcomp.debug.choices import choices, overrides
from qcomp.debug.inputs import treatments
from qcomp.recipes.named import settled
from qcomp.targets.cpu.lower import residual
from qcomp.targets.cpu.lower.graph import CHOICES
from qcomp.targets.cpu.target import CpuTarget
from tests.targets.conftest import host_isas

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def model(examples: Path) -> Path:
    return examples / "digits.onnx"


@pytest.fixture(scope="module")
def samples(examples: Path) -> list[Any]:
    with np.load(examples / "digits_calibration.npz") as data:
        return list(data["image"][:12][:, None])


@pytest.fixture(scope="module")
def labelled(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labelled") / "digits.npz"
    with np.load(examples / "digits_test.npz") as data:
        np.savez(path, image=data["images"][:120], labels=data["labels"][:120])
    return path


@pytest.fixture(scope="module")
def clipped(model: Path, samples: list[Any]) -> Bisection:
    """Of a network whose residual can't leave -0.5 to 0.5."""
    overrides = {"residual": {"range": (-0.5, 0.5)}, "logits": {"activation_bits": 16}}
    config = QuantizationConfig(recipe="fast", overrides=overrides)
    return bisect(model, "sqnr", calibration=samples, config=config)


@pytest.mark.slow
def test_a_clipped_range_is_named_by_its_override(clipped: Bisection) -> None:
    assert clipped.causes[0] == "override residual"
    (trial,) = (t for t in clipped.trials if t.name == "override residual")
    assert trial.value is not None
    assert trial.value > clipped.base + 10
    assert clipped.verdict.startswith("override residual: without the override range=(-0.5, 0.5)")


def test_the_report_fits_a_terminal_and_json_has_no_infinities(clipped: Bisection) -> None:
    text = told(clipped)
    assert max(map(len, text.splitlines())) <= 80
    assert "cause: override residual" in text
    endless = dataclasses.replace(clipped, base=float("inf"))
    found = json.loads(json.dumps(endless.json(), allow_nan=False))
    assert found["base"] is None
    assert {"name", "told", "value", "gain", "reason"} == set(found["trials"][0])


@pytest.mark.slow
def test_causes_that_gain_on_top_of_each_other_are_named_together(
    model: Path, samples: list[Any]
) -> None:
    overrides = {"residual": {"range": (-0.5, 0.5)}, "stem.relu6": {"range": (0.0, 0.2)}}
    config = QuantizationConfig(recipe="fast", overrides=overrides)
    found = bisect(model, "sqnr", calibration=samples, config=config)
    assert {"override residual", "override stem.relu6"} <= set(found.causes)
    assert found.together is not None
    assert found.together > 30 > found.base


def test_a_network_that_loses_nothing_has_no_cause(
    model: Path, samples: list[Any], labelled: Path
) -> None:
    found = bisect(model, "top1", calibration=samples, data=labelled)
    assert found.causes == ()
    assert found.verdict.startswith("nothing is lost: ")
    assert found.of_float is not None
    assert found.samples == 120


@pytest.mark.slow
def test_bits_are_the_cause_where_no_free_choice_helps(model: Path, samples: list[Any]) -> None:
    config = QuantizationConfig(recipe="fast", weight_bits=2, rounding="nearest")
    found = bisect(model, "sqnr", calibration=samples, config=config)
    names = {trial.name: trial for trial in found.trials}
    assert names["weight_bits"].gain is not None
    assert names["weight_bits"].gain > 3


def test_agreement_needs_no_labels_and_top1_does(model: Path, samples: list[Any]) -> None:
    found = bisect(model, "agreement", calibration=samples)
    assert found.of_float is None
    assert 0.8 <= found.base <= 1.0
    with pytest.raises(qcomp.CalibrationError, match="0 labels for 12 samples; give --data"):
        bisect(model, "top1", calibration=samples)


def test_a_metric_of_the_users_own_is_measured(
    model: Path, samples: list[Any], labelled: Path, tmp_path: Path
) -> None:
    own = tmp_path / "mine.py"
    own.write_text(
        "import numpy as np\n"
        f"with np.load({str(labelled)!r}) as arrays:\n"
        "    data = [(x[None], y) for x, y in zip(arrays['image'], arrays['labels'])]\n"
        "def metric(outputs, labels):\n"
        "    return {'right': float((outputs.argmax(axis=1) == np.array(labels)).mean())}\n"
    )
    found = bisect(model, str(own), calibration=samples)
    same = bisect(model, "top1", calibration=samples, data=labelled)
    assert (found.metric, found.samples, found.base) == ("mine.py", 120, same.base)
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(qcomp.CalibrationError, match="defines no `metric`"):
        bisect(model, str(tmp_path / "empty.py"), calibration=samples)


def test_data_in_another_scale_is_named_where_labels_tell(
    model: Path, samples: list[Any], labelled: Path
) -> None:
    with np.load(labelled) as data:
        bytes_, labels = data["image"] * np.float32(255), data["labels"].tolist()
    images = [x[None] for x in bytes_]
    found = bisect(model, "top1", calibration=samples, data=images, labels=labels)
    assert found.causes[0] == "data: inputs / 255"
    assert "the data is in another scale" in found.verdict
    right = bisect(model, "top1", calibration=[255 * x for x in samples], data=labelled)
    assert right.causes[0] == "calibration: inputs / 255"


def test_every_field_of_a_configuration_can_be_made_otherwise() -> None:
    config = QuantizationConfig(
        recipe="fast",
        absorb_bias=True,
        rounding="gptq",
        symmetric_activations=True,
        power_of_two_scales=True,
        weight_bits=4,
        first_last_weight_bits=4,
        overrides={"x": {"range": "kl"}, "y": {"activation_bits": 16}},
    )
    decided = settled(config, calibrated=True)
    for choice in (*choices(decided, has_data=True), *overrides(decided)):
        other = choice.apply(decided)
        changed = [
            f.name
            for f in dataclasses.fields(other)
            if getattr(other, f.name) != getattr(decided, f.name)
        ]
        expected = "overrides" if choice.name.startswith("override ") else choice.name
        assert changed == [expected]
        again = [c.name for c in (*choices(other, has_data=True), *overrides(other))]
        assert choice.name not in again or choice.name in (
            "per_channel",
            "equalize",
            "bias_correction",
            "range",
            "weight_range",
        )


@pytest.mark.parametrize(
    ("low", "high", "names"),
    [
        (0.0, 255.0, ["inputs / 255", "inputs / 127.5 - 1", "channels reversed"]),
        (0.0, 1.0, ["inputs * 255", "inputs * 2 - 1", "channels reversed"]),
        (-1.0, 1.0, ["inputs * 127.5 + 127.5", "inputs / 2 + 0.5", "channels reversed"]),
    ],
)
def test_data_is_treated_as_its_values_suggest(low: float, high: float, names: list[str]) -> None:
    x = np.linspace(low, high, 48, dtype=np.float32).reshape(1, 3, 4, 4)
    found = list(treatments([{"x": x}]))
    assert [t.name for t in found] == names
    turned = found[-1].of({"x": x})["x"]
    np.testing.assert_array_equal(turned, x[:, ::-1])
    assert all(t.of({"x": x})["x"].dtype == np.float32 for t in found)
    assert list(treatments([{"x": np.zeros((1, 3), np.int8)}])) == []


# -------------------------------------------------------------------- exactness


@pytest.mark.slow
@pytest.mark.parametrize("isa", host_isas()[-1:], ids=lambda isa: isa.name)
def test_code_that_does_without_a_choice_is_the_same_function(isa: Any, digits: Path) -> None:
    net = qcomp.load(digits)
    others = CpuTarget("one", (isa,)).otherwise()
    assert list(others) == ["plain code", *(f"no {choice}" for choice in CHOICES)]
    for target in others.values():
        artifact = target.emit(net.graph, "net")
        other = dataclasses.replace(net, artifact=artifact, library=None)
        x = np.random.default_rng(0).integers(-128, 128, (1, 1, 8, 8), np.int8)
        np.testing.assert_array_equal(other.run_integer(x), net.specification_integer(x))


def test_code_that_is_right_is_said_to_be(model: Path, samples: list[Any]) -> None:
    found = bisect(model, "exact", calibration=samples)
    assert (found.base, found.causes, found.trials) == (1.0, (), ())
    assert found.verdict == "the generated code is as specified"


@pytest.mark.slow
def test_a_fusion_that_is_wrong_is_named_with_the_op(model: Path, samples: list[Any]) -> None:
    if not qcomp.compile(model, recipe="fast").isa[-1].startswith("avx"):
        pytest.skip("no set of this machine fuses additions")
    addition = residual.Addition

    def wrong(**fields: Any) -> Any:
        return addition(**{**fields, "zero_point": fields["zero_point"] + 1})

    with mock.patch.object(residual, "Addition", wrong):
        found = bisect(model, "exact", calibration=samples)
    assert found.base < 1.0
    assert found.causes == ("no fused additions",)
    assert "exact with no fused additions; with taps the first op that differs is %residual.q" in (
        found.verdict
    )


# ---------------------------------------------------------------------- command


def test_the_command_says_what_was_asked(
    qcomp_command: Command, model: Path, calibration: Path
) -> None:
    arguments = ("bisect", model, "--calibration", calibration, "--metric", "agreement")
    outcome = qcomp_command(*arguments, "--json")
    assert outcome.status == 0, outcome.err
    found = json.loads(outcome.out)
    assert (found["metric"], found["samples"], found["of_float"]) == ("agreement", 8, None)


def test_what_is_given_wrongly_is_said_by_name(
    qcomp_command: Command, model: Path, calibration: Path
) -> None:
    outcome = qcomp_command("bisect", model, "--calibration", calibration, "--metric", "sqnt")
    assert outcome.status == 2
    assert "did you mean 'sqnr'?" in outcome.err
    assert "nothing to measure on" in qcomp_command("bisect", model).err
