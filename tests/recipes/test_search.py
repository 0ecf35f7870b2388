"""Recipe "auto": what is chosen is better, and is what the recipe file gives again."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from known_trials import KnownTrial
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import qcomp
from qcomp.calibration.evidence import Evidence
from qcomp.calibration.samples import samples_of
from qcomp.config import AUTO, QuantizationConfig
from qcomp.errors import CalibrationError
from qcomp.execute.trials import Trials
from qcomp.ir.form import Form
from qcomp.ir.parse import parse
from qcomp.quant.noise import Noise
from qcomp.quant.qparams import QParams, dequantize, quantize
from qcomp.quantizer import Quantizer
from qcomp.recipes.activations import Activations
from qcomp.recipes.choice import Choice
from qcomp.recipes.judge import Judge, Judgement, Trial, with_quantized
from qcomp.recipes.named import settled
from qcomp.recipes.search import ESTIMATORS, TRIALS, _confirm, _estimators, _is_known

Files = dict[str, bytes]

PLAIN = """
graph @net(%x: f32[2]) {
  %a = unary(%x) {function=abs, alpha=0.0, beta=0.0} : f32[2]
  return y=%a
}
"""


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """Convolution, SiLU, convolution, mean; the first channel hardly counts."""
    random = np.random.default_rng(6)
    first = random.standard_normal((8, 4, 3, 3)).astype(np.float32) / 6
    first[:, 0] /= 1000
    second = random.standard_normal((5, 8, 1, 1)).astype(np.float32) / 3
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["before"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["before"], ["gate"]),
        helper.make_node("Mul", ["before", "gate"], ["silu"]),
        helper.make_node("Conv", ["silu", "second"], ["scores"]),
        helper.make_node("ReduceMean", ["scores"], ["y"], axes=[2, 3], keepdims=0),
    ]
    float_ = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "outliers",
        [helper.make_tensor_value_info("x", float_, [1, 4, 6, 6])],
        [helper.make_tensor_value_info("y", float_, [1, 5])],
        [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.fixture(scope="module")
def data() -> NDArray[np.float32]:
    """The first channel is much larger than the others."""
    x = np.random.default_rng(5).standard_normal((12, 4, 6, 6)).astype(np.float32)
    x[:, 0] *= 30
    return x


ROOMY = QuantizationConfig(max_slowdown=1.5)


@pytest.fixture(scope="module")
def auto(model: onnx.ModelProto, data: Any) -> qcomp.CompiledNetwork:
    return qcomp.compile(model, calibration=data, config=ROOMY, name="net")


def recipe_log(net: qcomp.CompiledNetwork) -> str:
    (record,) = (r for r in net.records if r.name == "recipe")
    return record.log.text


def saved(net: qcomp.CompiledNetwork, folder: Path) -> Files:
    net.save(folder)
    return {f.name: f.read_bytes() for f in folder.iterdir()}


def test_nothing_is_left_to_decide(auto: qcomp.CompiledNetwork) -> None:
    assert AUTO not in [
        getattr(auto.config, f.name) for f in dataclasses.fields(auto.config) if f.name != "recipe"
    ]


def test_the_outputs_are_better_than_without_trials(
    auto: qcomp.CompiledNetwork, model: onnx.ModelProto, data: Any
) -> None:
    fast = qcomp.compile(model, calibration=data, recipe="fast", name="net")
    assert fast.sqnr_db_output is not None
    assert auto.sqnr_db_output is not None
    assert auto.sqnr_db_output > fast.sqnr_db_output, recipe_log(auto)
    assert "skip trials: recipe fast" in recipe_log(fast)


def test_the_log_tells_each_decision(auto: qcomp.CompiledNetwork) -> None:
    log = recipe_log(auto)
    (gain,) = (note for note in auto.notes if note.startswith("recipe auto: outputs "))
    before, after = re.findall(r"([\d.]+) (?:to|dB)", gain)
    assert float(after) > float(before)
    assert "on 12 samples, by " in gain
    assert "note 12 samples, smooth=True, equalize=False, range=mse, weight_range=" in log
    assert {"smooth", "equalize"} <= TRIALS.keys()  # but have nothing to do here
    for name in TRIALS.keys() - {"smooth", "equalize"}:
        answers = TRIALS[name]
        tried = [a for a in answers if f"{name}={a}: " in log]
        assert len(tried) >= len(answers) - 1, name


def test_the_written_recipe_gives_the_same_files_byte_for_byte(
    auto: qcomp.CompiledNetwork, model: onnx.ModelProto, data: Any, tmp_path: Path
) -> None:
    first = saved(auto, tmp_path / "first")
    recipe = tmp_path / "first" / "net.recipe.yaml"
    again = qcomp.compile(model, calibration=data, recipe=recipe, name="net")
    second = saved(again, tmp_path / "second")
    # These name the recipe, or tell how choices were found.
    told = {"net.recipe.yaml", "net.manifest.json", "net.passes.json.gz"}
    assert first.keys() == second.keys()
    assert {f for f in first if first[f] != second[f]} <= told
    lines = [f["net.recipe.yaml"].split(b"\n", 1)[1] for f in (first, second)]
    assert lines[0] == lines[1]


def test_data_that_comes_once_gives_the_same(
    auto: qcomp.CompiledNetwork, model: onnx.ModelProto, data: Any
) -> None:
    def once() -> Iterator[Any]:
        yield from data

    net = qcomp.compile(model, calibration=once(), config=ROOMY, name="net")
    assert net.config == auto.config
    assert str(net.graph) == str(auto.graph)


def test_what_the_caller_chose_is_not_tried(model: onnx.ModelProto, data: Any) -> None:
    chosen = QuantizationConfig(
        range="percentile",
        weight_range="minmax",
        bias_correction=None,
        equalize=False,
        activation_bits=8,
    )
    net = qcomp.compile(model, calibration=data, config=chosen, name="net")
    assert "skip trials: all is chosen" in recipe_log(net)
    half = qcomp.compile(
        model, calibration=data, config=QuantizationConfig(range="percentile"), name="net"
    )
    assert half.config.range == "percentile"
    assert not re.search(r"(did |skip) range=", recipe_log(half))
    assert "own ranges" not in recipe_log(half)


def test_a_range_that_the_caller_gave_stays(model: onnx.ModelProto, data: Any) -> None:
    config = dataclasses.replace(ROOMY, overrides={"x": {"range": (-50.0, 50.0)}})
    net = qcomp.compile(model, calibration=data, config=config, name="net")
    assert net.config.overrides["x"] == {"range": (-50.0, 50.0), "activation_bits": 16}
    assert net.inputs[0].scale == pytest.approx(100 / 65535, rel=1e-4)


def test_16_bits_go_to_the_activations_of_most_noise_unless_told_otherwise(
    auto: qcomp.CompiledNetwork, model: onnx.ModelProto, data: Any
) -> None:
    wide = {t for t, fields in auto.config.overrides.items() if "activation_bits" in fields}
    assert wide
    log = recipe_log(auto)
    assert "did  16 bits for " in log
    assert all(f"%{t}" in log for t in wide & {"x"})
    narrow = qcomp.compile(
        model, calibration=data, config=QuantizationConfig(activation_bits=8), name="net"
    )
    assert "16 bits" not in recipe_log(narrow)
    told = QuantizationConfig(overrides={t: {"activation_bits": 8} for t in wide})
    kept = qcomp.compile(model, calibration=data, config=told, name="net")
    assert all(kept.config.overrides[t]["activation_bits"] == 8 for t in wide)
    assert auto.sqnr_db_output > narrow.sqnr_db_output + 1.0  # type: ignore[operator]


def test_without_data_nothing_is_tried(tmp_path: Path) -> None:
    config = QuantizationConfig(recipe="data-free")
    model = Path(__file__).parents[2] / "examples/digits.onnx"
    net = qcomp.compile(model, calibration=np.zeros((1, 1, 8, 8), np.float32), config=config)
    assert (net.config.range, net.config.bias_correction) == ("batchnorm", "analytic")
    assert "skip trials: no calibration data" in recipe_log(net)
    assert not net.samples


def test_the_best_without_data_says_what_it_can_not_do() -> None:
    model = Path(__file__).parents[2] / "examples/digits.onnx"
    net = qcomp.compile(model, recipe="best")
    assert "recipe best: nothing is tried or learned: no calibration data" in net.notes


def test_an_output_that_is_no_float_leaves_nothing_to_compare(data: Any) -> None:
    graph = helper.make_graph(
        [helper.make_node("ArgMax", ["x"], ["y"], axis=1)],
        "argmax",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4, 6, 6])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.INT64, [1, 1, 6, 6])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    net = qcomp.compile(model, calibration=data)
    assert "skip trials: no output is a float" in recipe_log(net)


def test_only_the_chosen_tensor_is_rounded() -> None:
    graph = parse(PLAIN)
    q = QParams(0.25, 3)
    judge = Judge(Quantizer(graph, Form.FLOAT, Evidence(None, (-1.0, 1.0))))
    x = np.array([0.3, -1.7], np.float32)
    (run,) = judge.noise(with_quantized(graph, {"a": q}), [{"x": x}]).runs
    wanted = np.abs(x) - dequantize(quantize(np.abs(x), q), q)
    assert run.noise == pytest.approx(float(np.sum(wanted**2)))


def test_equal_trials_of_activations_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = parse(PLAIN)
    samples = [{"x": np.array([0.3, -0.4 * i], np.float32)} for i in range(3)]
    evidence = Evidence(samples_of(graph, [s["x"] for s in samples]), (-1.0, 1.0))
    judge, config = Judge(Quantizer(graph, Form.FLOAT, evidence)), QuantizationConfig(range="mse")
    activations = Activations.of(judge, settled(config, calibrated=True), samples)
    coarse, fine = {"a": QParams(0.25)}, {"a": QParams(0.01)}
    made: list[tuple[int, int]] = []
    trial = Trials.trial

    def counted(self: Trials, changes: Any, end: int, first: int = 0) -> Any:
        made.append((first, end))
        return trial(self, changes, end, first)

    monkeypatch.setattr(Trials, "trial", counted)
    first = activations.ranking(coarse)
    assert activations.noise(dict(coarse), 1) == first
    assert activations.noise(coarse, 3).runs[:1] == first.runs
    assert activations.noise(fine, 1).total.noise < first.total.noise
    assert made == [(0, 1), (1, 3), (0, 1)]


def test_estimators_that_are_hopeless_are_run_on_the_first_samples_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of values with long tails, analytic clipping cuts too many."""
    graph, random = parse(PLAIN.replace("[2]", "[256]")), np.random.default_rng(1)
    samples = [{"x": random.standard_t(3, 256).astype(np.float32)} for _ in range(8)]
    evidence = Evidence(samples_of(graph, [s["x"] for s in samples]), (-1.0, 1.0))
    judge = Judge(Quantizer(graph, Form.FLOAT, evidence))
    start = settled(QuantizationConfig(range="minmax"), calibrated=True)
    activations = Activations.of(judge, start, samples)
    choice = Choice(start, judge.trial(start, samples))
    ends: list[int] = []
    trial = Trials.trial

    def counted(self: Trials, changes: Any, end: int, first: int = 0) -> Any:
        ends.append(end)
        return trial(self, changes, end, first)

    monkeypatch.setattr(Trials, "trial", counted)
    _estimators(activations, choice, samples)
    told = re.findall(r"range=(\w+): .* dB of activations alone(, on 4 samples)?", choice.log.text)
    print(choice.log.text)
    hopeless = {name for name, few in told if few}
    assert hopeless == {"aciq"}
    assert {name for name, _ in told} == {*ESTIMATORS} - {"minmax"}
    assert sorted(ends) == [4] * len(told) + [8] * (1 + len(told) - len(hopeless))


def test_without_gates_to_open_nothing_is_equalized_to_see_that() -> None:
    judge = Judge(Quantizer(parse(PLAIN), Form.FLOAT, Evidence(None, (-1.0, 1.0))))
    start = settled(QuantizationConfig(), calibrated=True)
    with pytest.raises(CalibrationError):  # there is nothing to equalize by
        _is_known(judge, start, dataclasses.replace(start, equalize=True))
    assert _is_known(judge, start, dataclasses.replace(start, equalize="gates"))


@dataclasses.dataclass
class Known(Judge):
    """Judges by what is known of a configuration: the noise with biases corrected layer by layer,
    or, where nothing is fitted, each by itself.
    """

    layered: float = 0.0
    apart: float = 0.0

    def trial(self, config: Any, samples: Any, fitted_to: Any = None) -> Trial:
        fitted = fitted_to is not None and config.bias_correction == "empirical"
        noise = Noise(1.0, self.layered if fitted else self.apart)
        return KnownTrial(Judgement((noise,)))


@pytest.mark.parametrize(
    ("layered", "asked", "taken"),
    [(0.2, AUTO, "analytic"), (0.05, AUTO, "empirical"), (0.2, "empirical", "empirical")],
)
def test_biases_are_corrected_layer_by_layer_where_that_is_better(
    layered: float, asked: str, taken: str
) -> None:
    quantizer = Quantizer(parse(PLAIN), Form.FLOAT, Evidence(None, (-1.0, 1.0)))
    judge = Known(quantizer, layered=layered, apart=0.1)
    start = settled(QuantizationConfig(), calibrated=True)
    found = dataclasses.replace(start, weight_range="mse")
    choice = Choice(found, judge.trial(found, []))
    first = _confirm(judge, choice, QuantizationConfig(bias_correction=asked), start, [])
    assert first.whole.total.noise == layered
    assert choice.config.bias_correction == taken
    assert choice.trial.whole.total.noise == (0.1 if taken == "analytic" else layered)


def test_better_means_better_on_both_halves() -> None:
    def judged(*noises: float) -> Judgement:
        return Judgement(tuple(Noise(1.0, noise) for noise in noises))

    base = judged(1e-2, 1e-2, 1e-2, 1e-2)
    lucky = judged(1e-4, 2e-2, 1e-4, 1e-2)
    sound = judged(9e-3, 9e-3, 9e-3, 9e-3)
    assert lucky.db > sound.db > base.db
    assert sound.improves(base, 0.1)
    assert not lucky.improves(base, 0.1)
    assert not sound.improves(base, 1.0)


def test_weights_of_few_bits_come_back_after_the_trials(model: onnx.ModelProto, data: Any) -> None:
    overrides = {"scores.conv": {"weight_bits": 4}, "x": {"symmetric_activations": True}}
    config = QuantizationConfig(weight_bits=3, first_last_weight_bits=1, overrides=overrides)
    net = qcomp.compile(model, calibration=data, config=config, name="net")
    assert (net.config.weight_bits, net.config.rounding) == (3, "gptq")
    for key, fields in overrides.items():
        assert fields.items() <= net.config.overrides[key].items()
    text = "\n".join(record.log.text for record in net.records)
    assert "weights of 3 bits" in text
    assert "weights of 4 bits" in text
