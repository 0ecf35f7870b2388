"""Rounding layer by layer: what it gains, what it declines, and going on after an interruption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fitted_network import Case, made
from numpy.testing import assert_array_equal

import qcomp.reconstruction.round_weights as module
from qcomp.execute.session import FloatSession
from qcomp.ir import Graph
from qcomp.ir.ops import FakeQuantConstant
from qcomp.passes.base import run_pass
from qcomp.passes.certify_accumulators import CertifyAccumulators
from qcomp.passes.events import PassLog
from qcomp.passes.fuse_requantize import FuseRequantize
from qcomp.passes.lib.qdq import rounding_grid
from qcomp.quant.grid import largest
from qcomp.quant.metrics import sqnr_db
from qcomp.reconstruction.correct_bias import CorrectBiasEmpirically
from qcomp.reconstruction.round_weights import RoundWeights
from qcomp.reconstruction.walk import FittingData

FITTED = [
    {"rounding": "gptq"},
    {"weight_range": "seqmse"},
    {"rounding": "adaround", "rounding_iterations": 200},
    {"rounding": "gptq", "weight_range": "seqmse"},
]


def rounded(c: Case, **data: object) -> tuple[Graph, PassLog]:
    return run_pass(c.qdq, RoundWeights(c.config, replace(c.data, **data)))  # type: ignore[arg-type]


def quality(c: Case, graph: Graph) -> float:
    """Of the outputs, in dB."""
    float_session, session = FloatSession(c.float_graph), FloatSession(graph)
    reference, got = (
        np.concatenate([s.run(sample)["scores"] for sample in c.samples])
        for s in (float_session, session)
    )
    return sqnr_db(reference, got)


def constants(graph: Graph) -> list[np.ndarray]:
    return [t.data for t in graph.tensors() if t.data is not None]


@pytest.mark.parametrize("choices", FITTED, ids=str)
def test_the_outputs_are_better_than_with_rounding_to_nearest(choices: dict[str, object]) -> None:
    c = made(**choices)
    nearest, _ = run_pass(made().qdq, CorrectBiasEmpirically(c.data))
    after, log = rounded(c)
    assert log.count("did") == len(c.layers)
    assert quality(c, after) > quality(c, nearest) + 1.0


@pytest.mark.few(6)
@pytest.mark.parametrize("choices", FITTED[-2:], ids=str)
@pytest.mark.parametrize(
    "grid",
    [
        {"weight_bits": 1},
        {"weight_bits": 2},
        {"weight_bits": 8},
        {"per_channel": False},
        {"group_size": 4},
        {"power_of_two_scales": True},
        {"activation_bits": 16},
    ],
    ids=str,
)
def test_weights_are_stored_as_values_of_their_grid_on_every_kind_of_grid(
    choices: dict[str, object], grid: dict[str, object]
) -> None:
    c = made(**choices, **grid)
    before, _ = run_pass(made(**grid).qdq, CorrectBiasEmpirically(c.data))
    after, _ = rounded(c)
    for layer in c.layers:
        op = after.op(layer.weight)
        assert isinstance(op, FakeQuantConstant)
        data, own = after.data(op.x), rounding_grid(after, op)
        assert_array_equal(own.values(data).astype(np.float32), data)
        assert np.abs(own.nearest(data)).max() <= largest(own.bits)
        if grid.get("power_of_two_scales"):
            assert (np.frexp(own.scale)[0] == 0.5).all()
    assert quality(c, after) > quality(c, before) - (0.5 if grid == {"weight_bits": 8} else 0.0)


def test_scales_are_snapped_again_and_the_integer_form_is_certified() -> None:
    c = made(rounding="gptq", weight_range="seqmse")
    after, _ = rounded(c)
    integer, log = run_pass(after, FuseRequantize())
    run_pass(integer, CertifyAccumulators())
    assert "wide" not in log.text


def test_without_empirical_correction_biases_stay() -> None:
    c = made(rounding="gptq", bias_correction=None)
    after, _ = rounded(c)
    for layer in c.layers:
        assert_array_equal(
            after.data(after.op(layer.bias).inputs[0]),
            c.qdq.data(c.qdq.op(layer.bias).inputs[0]),
        )


def test_a_second_run_changes_nothing() -> None:
    c = made(rounding="gptq", weight_range="seqmse")
    once, _ = rounded(c)
    twice, log = run_pass(once, RoundWeights(c.config, c.data))
    assert str(once) == str(twice)
    assert log.count("did") == 0
    assert "skip a: %a.w.fitted is done already" in log.text
    corrected, log = run_pass(once, CorrectBiasEmpirically(c.data))
    assert str(once) == str(corrected)
    assert "skip a: %a.b.corrected is done already" in log.text


def test_layers_that_the_configuration_rounds_to_nearest_are_left_alone() -> None:
    c = made(rounding="gptq", overrides={"c": {"rounding": "nearest"}})
    after, log = rounded(c)
    assert "skip c: its weights are rounded to nearest" in log.text
    assert "c.w" in after
    assert log.count("did") == len(c.layers) - 1


def test_a_layer_with_long_rows_is_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_ROW", 30)
    _, log = rounded(made(rounding="gptq"))
    assert "skip e: 36 weights in an output channel, more than 30" in log.text


def test_few_rows_are_not_learned_by_heart() -> None:
    c = made(rounding="gptq", weight_bits=8)
    few = FittingData(c.float_graph, c.samples[:5], c.data.sampled)
    _, log = run_pass(c.qdq, RoundWeights(c.config, few))
    told = "skip g: 12 weights in an output channel, which would learn 5 rows by heart; from 12"
    assert f"{told} samples on they are fitted" in log.text
    assert log.count("did") == len(c.layers) - 1
    four = made(rounding="gptq", weight_bits=4, first_last_weight_bits=4)
    _, log = run_pass(four.qdq, RoundWeights(four.config, few))
    assert log.count("did") == len(c.layers), "of 4 bits there is much to make up for"


def test_weights_that_are_not_quantized_or_are_shared_are_declined() -> None:
    c = made(rounding="gptq")
    a, b = c.layers[:2]
    c.qdq.set_inputs(a, (a.x, c.qdq.op(a.weight).inputs[0], a.bias))
    c.qdq.outputs["shared"] = b.weight
    log = PassLog()
    RoundWeights(c.config, c.data).run(c.qdq, log)
    assert "skip a: %a.w is not quantized" in log.text
    assert "skip b: %b.w.fq has other users" in log.text


def test_the_same_bits_on_each_run() -> None:
    c = made(rounding="adaround", rounding_iterations=30)
    first, second = rounded(c)[0], rounded(c)[0]
    for one, other in zip(constants(first), constants(second), strict=True):
        assert_array_equal(one, other)


# ------------------------------------------------------------------------ cache


def test_what_was_interrupted_goes_on_and_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    c = made(rounding="adaround", rounding_iterations=30, weight_range="seqmse")
    whole, _ = rounded(c)
    fitted = []

    def interrupted(*arguments: object) -> object:
        if len(fitted) == 3:
            raise KeyboardInterrupt
        fitted.append(1)
        return real(*arguments)  # type: ignore[arg-type]

    real = module.fit
    monkeypatch.setattr(module, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rounded(c, cache=tmp_path / "kept")
    assert len(list((tmp_path / "kept").iterdir())) == 3
    fitted[:] = [1]
    after, _ = rounded(c, cache=tmp_path / "kept")
    assert len(fitted) == 1 + len(c.layers) - 3
    for one, other in zip(constants(whole), constants(after), strict=True):
        assert_array_equal(one, other)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", None])
def test_damaged_files_of_the_cache_are_made_anew_with_a_note(
    tmp_path: Path, damage: bytes | None
) -> None:
    c = made(rounding="gptq")
    first, _ = rounded(c, cache=tmp_path)
    for file in tmp_path.iterdir():
        if damage is None:
            np.savez(file, chosen=np.zeros(3), factor=np.ones(2))
        else:
            file.write_bytes(damage)
    second, log = rounded(c, cache=tmp_path)
    assert log.text.count("is damaged") == len(c.layers)
    for one, other in zip(constants(first), constants(second), strict=True):
        assert_array_equal(one, other)
    _, log = rounded(c, cache=tmp_path)
    assert log.count("note") == 0


@pytest.mark.parametrize(
    "other",
    [
        {"rounding": "gptq", "weight_range": "seqmse"},
        {"rounding": "gptq", "weight_bits": 3},
        {"rounding": "gptq", "bias_correction": None},
        {"rounding": "gptq", "snap_scales": False},
    ],
    ids=str,
)
def test_what_was_kept_for_other_choices_is_not_taken(
    tmp_path: Path, other: dict[str, object]
) -> None:
    rounded(made(rounding="gptq"), cache=tmp_path)
    c = made(**other)
    kept, _ = rounded(c, cache=tmp_path)
    anew, _ = rounded(c)
    for one, two in zip(constants(kept), constants(anew), strict=True):
        assert_array_equal(one, two)
