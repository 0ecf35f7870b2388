"""What docs/ states of passes, options, formats and arithmetic is what the code does."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attention_cases import Sizes, attention_case
from hypothesis import given
from hypothesis import strategies as st

import qcomp
from qcomp.calibration.sampled import SampledMeans
from qcomp.calibration.statistics import BATCH_NORM, Statistics
from qcomp.cli import main
from qcomp.cli.app import app
from qcomp.config import RANGES
from qcomp.ir.evaluate import (
    attention,
    dynamic,
    integer_elementwise,
    integer_recurrent,
    movement,
    normalization,
    octaves,
    pooling,
    power,
    reduction,
)
from qcomp.ir.ops import (
    OPS,
    Domain,
    IntegerOp,
    Interpolate,
    InterpolateOctaves,
    Mask,
    Movement,
    QAbsMax,
    QAdd,
    QAddRescaled,
    QAddWide,
    QAveragePool2d,
    QDiv,
    QGru,
    QLogPower,
    QLogSoftmax,
    QLstm,
    QMul,
    QNormalize,
    QPRelu,
    QPReluRescaled,
    QRescale,
    QScaleDown,
    QScaleUp,
    QSoftmax,
    Resize2d,
    ResizeMode,
    Unattended,
)
from qcomp.ir.parse import parse
from qcomp.ir.tensor import Mark
from qcomp.passes.leave_float_tail import LeaveFloatTail
from qcomp.passes.move_affine_ends import MoveAffineEnds
from qcomp.passes.take_inputs import TakeInputs
from qcomp.pipeline import STAGES, Given
from qcomp.quant import gemmlowp, inverse_root, tables
from qcomp.quant.estimators import ESTIMATORS
from qcomp.quant.estimators.percentile import PERCENTILE
from qcomp.quant.fixed_point import Form, Requantize, requantize
from qcomp.quant.qparams import integer_range
from qcomp.quant.recurrence import Factor, curve, mid_scaled
from qcomp.quant.resample import linear_weights
from qcomp.quant.tflite_constants import add_rescaled_constants
from qcomp.recipes.named import settled
from qcomp.reconstruction.walk import FittingData
from qcomp.targets.catalog import TARGETS

ROOT = Path(__file__).resolve().parent.parent
I8 = st.integers(-128, 127)
I16 = st.integers(-32768, 32767)
FACTORS = st.integers(-(2**13), 2**13)
ROWS = st.lists(I8, min_size=1, max_size=20)


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page(name), re.MULTILINE | re.DOTALL)


def names_in_first_column(name: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)`", page(name), re.MULTILINE)


# ------------------------------------------------------------------------- text


def test_every_page_is_in_the_index() -> None:
    pages = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    linked = set(re.findall(r"\]\(([^)]+\.md)\)", page("README.md")))
    assert linked == pages - {"README.md"}


TRANSFORMER = """graph @g(%x: f32[2,4]) {
  %p = constant : f32[4]
  %y = normalize(%x, %p, %p) {axes=(1,), centered=True, epsilon=1e-5} : f32[2,4]
  return y=%y
}"""


def test_the_passes_are_listed_in_their_order() -> None:
    every = qcomp.QuantizationConfig(
        equalize=True, absorb_bias=True, rounding="adaround", activations="dynamic"
    )
    config = settled(every, calibrated=True)
    others: list[dict[str, Any]] = [
        {"arithmetic": "onnx"},
        {"activations": "dynamic"},
    ]  # which have passes of their own
    nothing, graph = Statistics(mnemonics={}, channel_means={}), parse(TRANSFORMER)
    run: list[str] = [TakeInputs.name, LeaveFloatTail.name, MoveAffineEnds.name]  # before them
    for stage in STAGES:
        for fitting in (FittingData(graph, (), SampledMeans({})), None):
            given = Given(graph, lambda graph: {}, lambda graph, ids: {}, lambda: nothing, fitting)
            names = [p.name for p in stage.passes(config, given)]
            for fields in others:
                more = [p.name for p in stage.passes(dataclasses.replace(config, **fields), given)]
                for name in [name for name in more if name not in names]:
                    names.insert(more.index(name), name)
            run += [name for name in names if name not in run]
    listed = re.findall(r"^## ([a-z-]+)$", page("passes.md"), re.MULTILINE)
    assert listed == run


def test_the_marks_of_origins_are_listed() -> None:
    listed = [name for name in names_in_first_column("text-format.md") if "." not in name]
    assert listed == [mark.value for mark in Mark]


def test_every_pass_says_when_it_declines_or_fails() -> None:
    for section in re.split(r"^## ", page("passes.md"), flags=re.MULTILINE)[1:-1]:
        assert re.search(r"\*\*Declines\*\*|^Fails |fails otherwise", section, re.MULTILINE), (
            section
        )


def test_every_option_of_every_command_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    commands_only = page("cli.md").partition("\n## Options from a file")[0]
    sections = re.split(r"^## qcomp (\w+).*$", commands_only, flags=re.MULTILINE)[1:]
    described = dict(zip(sections[::2], sections[1::2], strict=True))
    assert list(described) == [command.callback.__name__ for command in commands()]
    first = commands_only.partition("\n## ")[0]
    for command, text in [(None, first), *described.items()]:
        with pytest.raises(SystemExit):
            main(["--help"] if command is None else [command, "--help"])
        option = r"^ +(?:-\w, )?(--[a-z-]+)(?: / (--[a-z-]+))?"
        found = re.findall(option, capsys.readouterr().out, re.MULTILINE)
        shown = {name for names in found for name in names if name}
        rows = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
        listed = [option for row in rows for option in re.findall(r"--[a-z-]+(?= |`)", row)]
        assert shown - {"--help"} == set(listed), command


def commands() -> list[Any]:
    return app.registered_commands


def test_every_field_of_the_config_is_described_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \|", page("calibration.md"), re.MULTILINE)
    fields = dataclasses.fields(qcomp.QuantizationConfig)
    assert {name: ast.literal_eval(text) for name, text in rows} == {
        f.name: f.default_factory() if callable(f.default_factory) else f.default for f in fields
    }


def test_every_estimator_is_described() -> None:
    assert set(RANGES) == {*ESTIMATORS, BATCH_NORM}
    assert set(RANGES) <= set(names_in_first_column("calibration.md"))
    assert f"{100 - PERCENTILE:.3f} %" in page("calibration.md")


def test_every_error_is_described() -> None:
    raised = {
        name
        for name in qcomp.__all__
        if isinstance(cls := getattr(qcomp, name), type)
        and issubclass(cls, qcomp.CompileError)
        and cls is not qcomp.CompileError
    }
    assert set(names_in_first_column("errors.md")) == raised


def test_every_target_is_described() -> None:
    first = page("targets.md").partition("\n## ")[0]
    assert re.findall(r"^\| `([^`]+)`", first, re.MULTILINE) == list(TARGETS)


def test_every_attribute_of_a_network_that_is_described_exists(digits: Path) -> None:
    net = qcomp.load(digits)
    for name in re.findall(r"`net\.(\w+)", page("python.md")):
        assert hasattr(net, name), name


def test_the_header_shown_is_the_header_of_the_digits_network(digits: Path) -> None:
    shown = blocks("c-interface.md", "c")[0].splitlines()
    header = (digits / "digits.h").read_text()
    varies = re.compile(r"(?<=WEIGHTS_BYTES )\d+|(?<=_MODEL )\w+|(?<=SCALE )\S+")
    assert len(shown) == 27
    for line in shown:
        assert varies.sub("", line.rstrip(";")) in varies.sub("", header), line


def test_the_graph_shown_is_read_and_printed_again() -> None:
    (text,) = blocks("text-format.md", "qcomp")
    assert str(parse(text)) == text.strip()


def test_a_dump_has_the_files_described(examples: Path, tmp_path: Path) -> None:
    qcomp.compile(examples / "digits.onnx", dump=tmp_path)
    written = {re.sub(r"^\d\d-[a-z-]+", "NN-pass", f.name) for f in tmp_path.iterdir()}
    described = {name for name in names_in_first_column("text-format.md") if "." in name}
    assert written == described - {"00-import.txt"}
    assert (tmp_path / "00-import.txt").is_file()


# ------------------------------------------------------------------- arithmetic


@pytest.fixture(scope="module")
def shown() -> dict[str, Callable[..., Any]]:
    """The functions of arithmetic.md."""
    functions: dict[str, Any] = {}
    exec("\n".join(blocks("arithmetic.md", "python")), functions)
    return functions


def test_every_integer_op_and_every_op_that_copies_has_its_meaning_described() -> None:
    text = page("arithmetic.md")
    integer = {m for m, cls in OPS.items() if issubclass(cls, IntegerOp)}
    shared = {m for m, cls in OPS.items() if cls.domain is Domain.ANY or issubclass(cls, Movement)}
    assert [
        m for m in sorted(integer | shared) if f"`{m}`" not in text and f"{m}(" not in text
    ] == []


def a(*values: int) -> Any:
    return np.array(values, np.int8)


@given(st.integers(-(2**31), 2**31 - 1), st.integers(257, 2**15 - 1), st.integers(0, 30), I8)
def test_narrow(shown: dict[str, Any], acc: int, m: int, k: int, z: int) -> None:
    q = requantize(np.array([acc]), np.array([m]), np.array([k]), Requantize(Form.NARROW, z))
    assert shown["saturate"](z + shown["narrow"](acc, m, k)) == q[0]


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**31 - 1), st.integers(1, 62), I8)
def test_wide(shown: dict[str, Any], acc: int, m: int, s: int, z: int) -> None:
    q = requantize(np.array([acc]), np.array([m]), np.array([s]), Requantize(Form.WIDE, z))
    assert shown["saturate"](z + shown["wide"](acc, m, s)) == q[0]


@given(
    I8, I8, I8, I8, I8, st.integers(-40, 2**13), st.integers(-(2**13), 2**13), st.integers(2, 15)
)
def test_additions(
    shown: dict[str, Any], x: int, y: int, za: int, zb: int, z: int, ma: int, mb: int, f: int
) -> None:
    names = {"inputs": ("a", "b"), "output": "y", "a_zero_point": za, "b_zero_point": zb}
    names |= {"a_multiplier": ma, "b_multiplier": mb, "zero_point": z}
    narrow, wide = QAdd(**names, fraction_bits=f), QAddWide(**names, shift=f)
    meaning = integer_elementwise.q_add(narrow, a(x), a(y))
    assert shown["q_add"](x, y, za, zb, ma, mb, f, z) == meaning[0]
    meaning = integer_elementwise.q_add_wide(wide, a(x), a(y))
    assert shown["q_add_wide"](x, y, za, zb, ma, mb, f, z) == meaning[0]


@given(I8, I8, I8, I8, I8, st.integers(1, 2**22 - 1), st.integers(1, 22))
def test_products_and_quotients(
    shown: dict[str, Any], x: int, y: int, za: int, zb: int, z: int, m: int, s: int
) -> None:
    names = {"inputs": ("a", "b"), "output": "y", "a_zero_point": za, "b_zero_point": zb}
    names |= {"multiplier": m, "shift": s}
    mul = QMul(**names, requantize=Requantize(Form.WIDE, z))
    assert shown["q_mul"](x, y, za, zb, m, s, z) == integer_elementwise.q_mul(mul, a(x), a(y))[0]
    div = QDiv(**names, zero_point=z)
    assert shown["q_div"](x, y, za, zb, m, s, z) == integer_elementwise.q_div(div, a(x), a(y))[0]


@given(I8, I8, I8, st.integers(0, 2**22 - 1), st.integers(-(2**22) + 1, 2**22), st.integers(0, 30))
def test_prelu(
    shown: dict[str, Any], x: int, zx: int, z: int, positive: int, negative: int, s: int
) -> None:
    op = QPRelu(
        inputs=("x", "m"),
        output="y",
        x_zero_point=zx,
        positive_multiplier=positive,
        shift=s,
        zero_point=z,
    )
    meaning = integer_elementwise.q_prelu(op, a(x), np.array([negative], np.int32))
    assert shown["q_prelu"](x, zx, positive, negative, s, z) == meaning[0]


@given(st.lists(I8, min_size=4, max_size=4), I8, I8, st.integers(1, 2**31 - 1), st.integers(1, 40))
def test_average(shown: dict[str, Any], x: list[int], zx: int, z: int, m: int, s: int) -> None:
    op = QAveragePool2d(
        inputs=("x", "m"),
        output="y",
        x_zero_point=zx,
        shift=s,
        requantize=Requantize(Form.WIDE, z),
        kernel=(2, 2),
    )
    multipliers = np.array([0, m, m // 2, m // 3, m // 4], np.int32)
    meaning = pooling.q_average_pool2d(op, a(*x).reshape(1, 2, 2, 1), multipliers)
    assert shown["q_average"](x, zx, multipliers.tolist(), s, z) == meaning.item()


@given(st.lists(I8, min_size=4, max_size=4))
def test_bilinear(shown: dict[str, Any], x: list[int]) -> None:
    op = Resize2d(inputs=("x",), output="y", size=(5, 3), scale=(2.5, 1.5), mode=ResizeMode.LINEAR)
    result = movement.resize2d(op, a(*x).reshape(1, 2, 2, 1))
    rows = linear_weights(2, 5, 2.5, op.coordinates.value)
    columns = linear_weights(2, 3, 1.5, op.coordinates.value)
    for i, (y0, y1, fy) in enumerate(zip(*rows, strict=True)):
        for j, (x0, x1, fx) in enumerate(zip(*columns, strict=True)):
            top, bottom = ((x[2 * y + x0], x[2 * y + x1]) for y in (y0, y1))
            wy, wx = (int(np.rint(f * 2**11)) for f in (fy, fx))
            assert shown["bilinear"](top, bottom, wy, wx) == result[0, i, j, 0]


@given(st.integers(-(2**27), 2**27), st.integers(2**30, 2**31 - 1), st.integers(-31, 4), I8)
def test_tflite(shown: dict[str, Any], acc: int, m: int, e: int, z: int) -> None:
    q = requantize(np.array([acc]), np.array([m]), np.array([e]), Requantize(Form.TFLITE, z))
    assert shown["saturate"](z + shown["tflite"](acc, m, e)) == q[0]


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**46 - 1), st.integers(16, 77), I8)
def test_away(shown: dict[str, Any], acc: int, m: int, s: int, z: int) -> None:
    q = requantize(np.array([acc]), np.array([m]), np.array([s]), Requantize(Form.AWAY, z))
    assert shown["saturate"](z + shown["away"](acc, m, s)) == q[0]


@given(st.integers(-(2**31), 2**31 - 1), st.integers(1, 2**31 - 1), I8)
def test_quotient(shown: dict[str, Any], acc: int, m: int, z: int) -> None:
    q = requantize(np.array([acc]), np.array([m]), np.array([0]), Requantize(Form.QUOTIENT, z))
    assert shown["saturate"](z + shown["quotient"](acc, m)) == q[0]


@given(I8, I8, I8, I8, I8, st.sampled_from([1, -1]), *[st.floats(2.0**-10, 1.0, width=32)] * 3)
def test_addition_of_tensorflow_lite(
    shown: dict[str, Any], x: int, y: int, za: int, zb: int, z: int, sign: int,
    a_scale: float, b_scale: float, y_scale: float,
) -> None:  # fmt: skip
    c = add_rescaled_constants(a_scale, b_scale, y_scale)
    op = QAddRescaled(
        inputs=("a", "b"), output="y", a_zero_point=za, b_zero_point=zb, b_sign=sign,
        requantize=Requantize(Form.TFLITE, z), **asdict(c),
    )  # fmt: skip
    first, second = (c.a_multiplier, c.a_shift), (c.b_multiplier, c.b_shift)
    last = c.multiplier, c.shift
    got = shown["q_add_rescaled"](x, y, za, zb, first, second, sign, last, z)
    assert got == integer_elementwise.q_add_rescaled(op, a(x), a(y))[0]


@given(I8, I8, I8, I8, I8, st.integers(-12, 0), st.integers(-12, 0))
def test_prelu_of_tensorflow_lite(
    shown: dict[str, Any], x: int, slope: int, zx: int, zs: int, z: int, e: int, of_products: int
) -> None:
    op = QPReluRescaled(
        inputs=("x", "s"), output="y", x_zero_point=zx, slope_zero_point=zs,
        positive_multiplier=2**30 + 5, positive_shift=e, multiplier=2**31 - 9, shift=of_products,
        requantize=Requantize(Form.TFLITE, z),
    )  # fmt: skip
    got = shown["q_prelu_rescaled"](x, slope, zx, zs, (2**30 + 5, e), (2**31 - 9, of_products), z)
    assert got == integer_elementwise.q_prelu_rescaled(op, a(x), a(slope))[0]


@given(ROWS, st.floats(2.0**-10, 1.0, width=32))
def test_softmax_of_tensorflow_lite(shown: dict[str, Any], row: list[int], scale: float) -> None:
    table = gemmlowp.exp_table(scale)
    op = QSoftmax(inputs=("x", "e"), output="y", axis=0, form=Form.TFLITE)
    meaning = reduction.q_softmax(op, a(*row), table)
    assert shown["q_softmax_tflite"](row, table.tolist()) == meaning.tolist()


@given(ROWS, st.floats(1e-3, 1.0), st.integers(0, 5))
def test_softmax(shown: dict[str, Any], row: list[int], scale: float, finer: int) -> None:
    table = tables.exp_table(scale)
    op = QSoftmax(inputs=("x", "e"), output="y", axis=0, finer=finer)
    meaning = reduction.q_softmax(op, a(*row), table)
    assert shown["q_softmax"](row, table.tolist(), finer) == meaning.tolist()


@given(ROWS, st.floats(1e-3, 1.0), st.floats(1e-3, 1.0), I8)
def test_log_softmax(
    shown: dict[str, Any], row: list[int], x_scale: float, y_scale: float, z: int
) -> None:
    m, s, units = tables.log_softmax_constants(x_scale, y_scale)
    exp, log = tables.exp_table(x_scale), tables.log_table(units)
    op = QLogSoftmax(
        inputs=("x", "e", "l"), output="y", axis=0, multiplier=m, shift=s, zero_point=z
    )
    meaning = reduction.q_log_softmax(op, a(*row), exp, log)
    given_tables = exp.tolist(), log.tolist()
    assert shown["q_log_softmax"](row, *given_tables, m, s, z) == meaning.tolist()


def a16(*values: int) -> Any:
    return np.array(values, np.int16)


@given(I16, st.integers(0, 2**31 - 1), st.integers(1, 62), st.sampled_from([8, 16]))
def test_rescale_of_16_bits(shown: dict[str, Any], x: int, m: int, s: int, bits: int) -> None:
    low, high = integer_range(bits)
    names = {"inputs": ("x",), "output": "y", "x_zero_point": 0, "multiplier": m, "shift": s}
    op = QRescale(**names, requantize=Requantize(Form.WIDE, 0, low, high, bits))
    meaning = integer_elementwise.q_rescale(op, a16(x))
    assert shown["q_rescale"](x, 0, m, s, 0, low, high) == meaning[0]


@given(I16, st.integers(5, 7), st.integers(0, 100))
def test_interpolation(shown: dict[str, Any], x: int, k: int, seed: int) -> None:
    table = np.random.default_rng(seed).integers(-(2**23), 2**23, 2 ** (16 - k) + 1, endpoint=True)
    limits = {"zero_point": 0, "qmin": -32768, "qmax": 32767}
    op = Interpolate(inputs=("x", "t"), output="y", step_bits=k, bits=16, **limits)
    meaning = integer_elementwise.interpolate(op, a16(x), table.astype(np.int32))
    assert shown["interpolate"](x, table.tolist(), k, *limits.values()) == meaning[0]


@given(
    st.one_of(st.integers(-(2**31), 2**31 - 1), st.integers(-300, 300)),
    st.integers(1, 4),
    st.integers(1, 2),
    st.sampled_from((16, 32)),
)
def test_interpolation_by_octaves(
    shown: dict[str, Any], x: int, k: int, sides: int, bits: int
) -> None:
    size = 1 + sides * ((32 << k) + 1)
    table = np.random.default_rng(k).integers(-(2**23), 2**23, size, np.int32)
    low, high = integer_range(bits)
    limits = {"bits": bits, "zero_point": 0, "qmin": low, "qmax": high}
    op = InterpolateOctaves(inputs=("x", "t"), output="y", step_bits=k, **limits)
    meaning = octaves.interpolate_octaves(op, np.array([x], np.int32), table)
    assert shown["interpolate_octaves"](x, table.tolist(), k, *limits.values()) == meaning[0]


@given(
    I16, I16, st.floats(1e-3, 1.0), st.integers(0, 2**40), st.integers(1, 2**40), st.integers(0, 45)
)
def test_log_power(
    shown: dict[str, Any], x: int, y: int, y_scale: float, added: int, least: int, down: int
) -> None:
    table = tables.log_table_16(2**16 / y_scale, 0)
    offset = -round(20 * 2**16 / y_scale)
    op = QLogPower(
        inputs=("a", "b", "t"), output="y", x_zero_point=0, down=down, added=added, least=least,
        offset=offset, zero_point=-3,
    )  # fmt: skip
    meaning = power.q_log_power(op, a16(x), a16(y), table)
    got = shown["q_log_power"](x, y, table.tolist(), 0, down, added, least, offset, -3)
    assert got == meaning[0]


@given(
    st.lists(st.tuples(I16, I16, st.integers(-(2**30), 2**30)), min_size=1, max_size=20),
    st.integers(0, 8),
    st.integers(0, 2**40),
    st.integers(0, 23),
    st.booleans(),
)
def test_normalize(
    shown: dict[str, Any],
    values: list[tuple[int, int, int]],
    f: int,
    added: int,
    precision: int,
    centered: bool,
) -> None:
    row, gamma, beta = map(list, zip(*values, strict=True))
    table = inverse_root.inverse_root_table()
    assert shown["INVERSE_ROOTS"] == table.tolist()
    m, q = round(2 ** (30 + f) / len(row)) >> 4, 26
    op = QNormalize(
        inputs=("x", "r", "g", "b"), output="y", axes=(0,), centered=centered, x_zero_point=7,
        fraction_bits=f, mean_multiplier=m, mean_shift=q, added=added, least=3,
        precision=precision, shift=17, qmin=-128, qmax=127,
    )  # fmt: skip
    meaning = normalization.q_normalize(
        op, a16(*row), table, np.array(gamma, np.int16), np.array(beta, np.int32)
    )
    c = shown["rounding_shift"](sum(row) * m, q) if centered else 7 << f
    got = shown["q_normalize"](row, f, c, added, 3, precision, gamma, beta, 17)
    assert got == meaning.tolist()


@given(st.integers(0, 2**32 - 1), st.sampled_from([8, 16]), st.sampled_from([8, 16]))
def test_attention(shown: dict[str, Any], seed: int, v_bits: int, y_bits: int) -> None:
    random = np.random.default_rng(seed)
    sizes = Sizes(1, 1, 1, 1, int(random.integers(1, 40)), 4, 3)
    masks = (Mask.SCORES,) if seed % 3 else ()
    unattended = list(Unattended)[seed % 2]
    widths, step = (8, 8, v_bits, y_bits), float(np.exp(random.uniform(-9, 2)))
    case = attention_case(seed, sizes, widths=widths, masks=masks, unattended=unattended, step=step)
    (q, k, v), (table, *added) = case.operands, case.constants
    op = case.make(inputs=(), output="y")
    scores = (k[0, :, 0].astype(int) @ (q[0, 0, 0].astype(int) - op.q_zero_point)).tolist()
    for mask in added:
        row = np.broadcast_to(mask, (1, 1, 1, sizes.keys)).ravel().tolist()
        scores = [None if m < -(2**28) else s + m for s, m in zip(scores, row, strict=True)]
    meaning = attention.q_attention(op, q, k, v, table, *added)
    got = shown["q_attention"](
        scores, v[0, :, 0].tolist(), op.v_zero_point, table.tolist(), op.score_shift, op.multiplier,
        op.probability_bits, op.down, op.numerator, op.shift, op.zero_point,
        *integer_range(y_bits), unattended is Unattended.ZERO,
    )  # fmt: skip
    assert got == meaning.ravel().tolist()


@given(st.lists(I16, min_size=1, max_size=20), st.floats(1e-6, 1e-2), st.sampled_from([8, 16]))
def test_softmax_of_16_bits(shown: dict[str, Any], row: list[int], scale: float, bits: int) -> None:
    table = tables.exp_table_16(scale)
    for finer in range(6 if bits == 8 else 1):
        op = QSoftmax(inputs=("x", "e"), output="y", axis=0, bits=bits, finer=finer)
        meaning = reduction.q_softmax(op, a16(*row), table)
        assert shown["q_softmax_16"](row, table.tolist(), bits, finer) == meaning.tolist()


@given(st.integers(1, 2**46 - 1), st.sampled_from([16, 30]), st.floats(1.0, 2.0**40))
def test_logarithm_of_16_bits(
    shown: dict[str, Any], total: int, fraction: int, units: float
) -> None:
    table = tables.log_table_16(units, fraction)
    meaning = reduction.integer_log(np.array([total]), table)
    assert shown["log_16"](total, table.tolist()) == meaning[0]


@given(st.lists(I16, min_size=1, max_size=20), st.integers(0, 15))
def test_scaling_down(shown: dict[str, Any], row: list[int], small: int) -> None:
    row = [x >> small for x in row]
    scale = dynamic.q_abs_max(QAbsMax(inputs=("x",), output="a", axes=(0,)), a16(*row))
    assert shown["q_abs_max"](row) == scale[0]
    meaning = dynamic.q_scale_down(QScaleDown(inputs=("x", "a"), output="q"), a16(*row), scale)
    assert [shown["q_scale_down"](x, int(scale[0])) for x in row] == meaning.tolist()


@given(I16, st.integers(0, 32767), st.integers(-(2**30), 2**30), st.integers(0, 30))
def test_scaling_up(shown: dict[str, Any], t: int, scale: int, bias: int, shift: int) -> None:
    op = QScaleUp(inputs=("t", "a", "b"), output="y", shift=shift, qmin=-100, qmax=127)
    meaning = dynamic.q_scale_up(op, a16(t), a16(scale), np.array([bias], np.int32))
    assert shown["q_scale_up"](t, scale, bias, shift, qmin=-100) == meaning[0]


@given(
    st.integers(-(2**22), 2**22), st.integers(0, 2**12 - 1), st.integers(0, 20), st.integers(0, 8)
)
def test_mid18(shown: dict[str, Any], acc: int, m: int, k: int, left: int) -> None:
    expected = mid_scaled(np.array([acc]), np.array([m]), np.array([k]), left)
    assert shown["mid18"](acc, m, k, left) == expected[0]


SUM = st.integers(-(2**15), 2**15 - 1)
SIGMOID, TANH = (curve(f, 11)[0].tolist() for f in (lambda v: 1 / (1 + np.exp(-v)), np.tanh))
STATES = Requantize(Form.WIDE, 0, -(2**15), 2**15 - 1, 16)
EXACT = Factor(1, 0)


def step_of(op: Any, sums: tuple[int, ...], curves: Any, *states: Any, **fields: Any) -> Any:
    """One step of a layer of one cell whose hidden state has weights of 0; the last rows."""
    zeros, rows = np.zeros(len(sums), np.int32), len(sums)
    made = op(
        inputs=(),
        output="",
        reverse=False,
        tail=True,
        has_lengths=False,
        x_shift=0,
        sum_bits=11,
        left=0,
        clip=2**15,
        initial_zero_point=0,
        initial_factor=EXACT,
        hidden_factor=EXACT,
        hidden=STATES,
        result_factor=EXACT,
        result=STATES,
        **fields,
    )
    x, weight = np.array(sums, np.int16).reshape(1, 1, rows), np.zeros((rows, 1), np.int8)
    operands = (x, weight, zeros, zeros, zeros, np.array(curves), *states)
    return integer_recurrent.MEANINGS[op](made, *operands)[:, 0, 0]


@given(
    SUM, SUM, SUM, SUM, SUM, st.integers(-(2**11) + 1, 2**11 - 1), st.integers(0, 12), st.booleans()
)
def test_q_lstm(
    shown: dict[str, Any], i: int, o: int, f: int, g: int, c: int, m: int, s: int, coupled: bool
) -> None:
    down = Factor(1, 12)  # so that the cell state shows within 16 bits
    rows = step_of(
        QLstm,
        (i, o, f, g),
        (SIGMOID, TANH, TANH),
        np.int16([[0]]),
        np.int16([[c]]),
        np.array([m] * 3),
        np.array([s] * 3),
        fractions=(15, 15, 15),
        state_bits=15,
        coupled=coupled,
        cell_initial_zero_point=0,
        cell_initial_factor=Factor(2**8, 0),
        cell_factor=down,
    )
    sums = [v + shown["peephole"](c << 8, m, s, 11) for v in (i, f)]
    cell = (c << 8, SIGMOID, TANH, TANH, 15, 15, 11, coupled)
    _, new = shown["q_lstm"](sums[0], o, sums[1], g, *cell)
    out = o + shown["peephole"](new, m, s, 11)
    h, _ = shown["q_lstm"](sums[0], out, sums[1], g, *cell)
    assert [shown["saturate"](v, -(2**15), 2**15 - 1) for v in (h, down.of(np.array(new)))] == list(
        rows[1:]
    )


@given(SUM, SUM, SUM, SUM)
def test_q_gru(shown: dict[str, Any], z: int, r: int, n: int, h: int) -> None:
    rows = step_of(
        QGru,
        (z, r, n),
        (SIGMOID, TANH),
        np.int16([[h]]),
        fractions=(15, 15),
        state_bits=15,
        linear_before_reset=True,
    )
    state = shown["q_gru"](z, shown["on_curve"](TANH, n), h, SIGMOID, 15)
    assert shown["saturate"](state, -(2**15), 2**15 - 1) == rows[1]
