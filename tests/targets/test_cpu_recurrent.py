"""Generated recurrent layers equal their meaning in every bit: kinds, widths, sizes, directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from recurrent_models import LAYERS, Layer

import qcomp
from qcomp.ir.ops import QGru, QLstm, QRecurrent, QRnn
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.recurrence import Factor, curve

SIZES = [1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 65]
KINDS: dict[type[QRecurrent], int] = {QRnn: 1, QGru: 2, QLstm: 3}
WIDE = Requantize(Form.WIDE, 0, -(2**15), 2**15 - 1, 16)
CURVES: list[Callable[[Any], Any]] = [
    lambda v: 1 / (1 + np.exp(-v)),
    np.tanh,
    lambda v: np.maximum(v, 0),
]


def sigmoids(op: type[QRecurrent], unbounded: bool) -> tuple[np.ndarray, tuple[int, ...]]:
    """Gates are sigmoids; a last function may have values up to 16."""
    chosen = [CURVES[min(i, 1)] for i in range(KINDS[op])]
    if unbounded:
        chosen[-1] = CURVES[2]
    found = [curve(f, 11) for f in chosen]
    return np.stack([entries for entries, _ in found]), tuple(bits for _, bits in found)


def check(
    kit: Any,
    op: type[QRecurrent],
    hidden: int,
    *,
    seed: int = 0,
    steps: int = 3,
    batch: int = 1,
    bits: tuple[int, int] = (8, 8),  # of the hidden state in products, and of the result
    initial: tuple[int, int] = (8, 16),
    lengths: Any = None,
    peepholes: bool = False,
    unbounded: bool = False,
    **fields: Any,
) -> None:
    random = np.random.default_rng([hidden, seed])
    gates = op.float_op.gates
    rows = gates * hidden
    weight = random.integers(-127, 128, (rows, hidden)).astype(np.int8)
    weight[random.random(weight.shape) < 0.05] = 127
    own, result = (Requantize(Form.WIDE, 3) if n == 8 else WIDE for n in bits)
    entries, fractions = sigmoids(op, unbounded)
    x = (random.normal(0, 2.5, (steps, batch, rows)) * 2**11).clip(-(2**15), 2**15 - 1)
    states = [getattr(kit, f"i{n}")(batch, hidden, seed=seed + n) for n in initial]
    left = fields.get("left", 0)
    shift = int(np.log2(hidden) / 2) + (5 if bits[0] == 8 else 13)
    operands = [
        x.astype(np.int16),
        kit.fixed(weight),
        kit.fixed(random.integers(-(2**12), 2**12, rows).astype(np.int32)),
        kit.fixed(random.integers(2**11, 2**12, rows).astype(np.int32)),
        kit.fixed((random.integers(0, 3, rows) + shift + left).astype(np.int32)),
        kit.fixed(entries),
        states[0],
    ]
    scale = fractions[-1] if op is not QGru else 20
    small = 31 if op is QGru else 15
    fields = {
        "reverse": False,
        "tail": False,
        "has_lengths": lengths is not None,
        "x_shift": 0,
        "sum_bits": 11,
        "left": 0,
        "clip": 2**15,
        "fractions": fractions,
        "state_bits": scale,
        "initial_zero_point": 3 if initial[0] == 8 else 0,
        "initial_factor": Factor(2**20 + 7, 20 + (7 if initial[0] == 8 else 15) - scale),
        "hidden_factor": Factor(2**small - 345, small + scale - (7 if bits[0] == 8 else 15)),
        "hidden": own,
        "result_factor": Factor(2**small - 567, small + scale - (7 if bits[1] == 8 else 14)),
        "result": result,
        **fields,
    }
    if op is QGru:
        fields = {"linear_before_reset": False, **fields}
    if op is QLstm:
        reach = 2**11 if peepholes else 1
        tables = random.integers(1 - reach, reach, 3 * hidden), random.integers(0, 14, 3 * hidden)
        operands += [states[1], *(kit.fixed(t.astype(np.int32)) for t in tables)]
        fields = {
            "coupled": False,
            "cell_initial_zero_point": 3 if initial[1] == 8 else 0,
            "cell_initial_factor": Factor(2**20 + 9, 8 if initial[1] == 8 else 16),
            "cell_factor": Factor(2**30 + 5, 31 if bits[1] == 16 else 43),
            **fields,
        }
    if lengths is not None:
        operands.append(lengths)
    kit.check(partial(op, **fields), *operands, zero_point=3)


@pytest.mark.parametrize("hidden", SIZES)
@pytest.mark.parametrize("op", KINDS)
def test_any_number_of_cells(kit: Any, op: type[QRecurrent], hidden: int) -> None:
    for bits in kit.some([(8, 8), (8, 16), (16, 16)], hidden):
        check(kit, op, hidden, bits=bits)


@pytest.mark.parametrize("bits", [(8, 8), (8, 16), (16, 16), (16, 8)])
@pytest.mark.parametrize("op", KINDS)
def test_any_widths(kit: Any, op: type[QRecurrent], bits: tuple[int, int]) -> None:
    check(kit, op, 20, bits=bits, initial=(16, 8), steps=4)


@pytest.mark.parametrize("op", KINDS)
def test_directions_tails_and_batches(kit: Any, op: type[QRecurrent]) -> None:
    for n, reverse in enumerate((False, True)):
        for tail in (False, True):
            check(kit, op, 9, seed=n, reverse=reverse, tail=tail, batch=3, bits=(8, 16))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("op", KINDS)
def test_lengths_of_any_value(kit: Any, op: type[QRecurrent], bits: int) -> None:
    """Of constants those out of range are none, or all of the steps; inputs have no such."""
    lengths = np.array([0, 1, 5, 4, 6, -1, 127, -128], f"int{bits}")
    for reverse in (False, True):
        fields = {"steps": 5, "batch": 8, "tail": True, "reverse": reverse}
        check(kit, op, 6, lengths=kit.fixed(lengths), **fields)
        check(kit, op, 6, lengths=lengths.clip(0, 5), **fields)


@pytest.mark.parametrize("op", KINDS)
def test_clips_shifts_and_functions_without_a_bound(kit: Any, op: type[QRecurrent]) -> None:
    check(kit, op, 11, clip=900)
    check(kit, op, 11, x_shift=2, left=2)
    check(kit, op, 11, unbounded=True, bits=(8, 16))


def test_a_gru_resets_before_or_behind_the_product(kit: Any) -> None:
    for hidden in (5, 16, 40):
        check(kit, QGru, hidden, linear_before_reset=True)
        check(kit, QGru, hidden, linear_before_reset=False, bits=(16, 16), unbounded=True)


def test_peepholes_and_coupled_gates(kit: Any) -> None:
    check(kit, QLstm, 13, peepholes=True)
    check(kit, QLstm, 13, peepholes=True, coupled=True, reverse=True, bits=(16, 16))
    check(kit, QLstm, 13, coupled=True)


NATIVE = [
    "LSTM plain",
    "LSTM lengths both ways",
    "LSTM peepholes",
    "GRU initial states",
    "RNN of ReLU",
]


def compiled(layer: Layer, **choices: Any) -> tuple[Any, list[dict[str, np.ndarray]]]:
    data = [layer.feed(seed) for seed in range(8)]
    config = qcomp.QuantizationConfig(**choices)
    return qcomp.compile(layer.model(), "native", calibration=data, config=config), data


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", NATIVE)
def test_networks_have_the_bits_of_their_specification(name: str, bits: int) -> None:
    net, data = compiled(LAYERS[name], activation_bits=bits)
    for feed in data:
        found, expected = net(feed), net.specification(feed)
        for key, y in (expected if isinstance(expected, dict) else {"": expected}).items():
            np.testing.assert_array_equal(found[key] if key else found, y)


def test_code_does_not_grow_with_the_steps() -> None:
    sizes = []
    for steps in (200, 800):
        net, _ = compiled(replace(LAYERS["LSTM plain"], steps=steps), activation_bits=8)
        sizes.append(sum(len(file) for name, file in net.artifact.files.items()))
    few, many = sizes
    assert many - few < 256, "numbers of the header may have more digits"


def test_lengths_beyond_the_steps_are_refused_before_a_run() -> None:
    net, data = compiled(LAYERS["GRU lengths"], activation_bits=8)
    steps, batch = LAYERS["GRU lengths"].steps, LAYERS["GRU lengths"].batch
    for wrong in (-1, steps + 1, 127):
        lengths = np.full(batch, 2, np.int32)
        lengths[1] = wrong
        with pytest.raises(ValueError, match=rf"{wrong} at \[1\] .* expected 0 to {steps}"):
            net({**data[0], "lengths": lengths})
    for right in (0, steps):
        net({**data[0], "lengths": np.full(batch, right, np.int32)})
