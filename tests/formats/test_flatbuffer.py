"""The reader and its schema, held to the code that was generated from TensorFlow's schema file."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as generated
from tflite_models import packed

from qcomp.formats.flatbuffer import BrokenBuffer, Field, Reader
from qcomp.formats.tflite import ELEMENT_TYPES, INDICES, OPERATORS, OPTIONS, SCHEMA

NUMBERS = {"bool": True, "i8": 5, "u8": 7, "i32": -70_000, "u32": 70_000, "u64": 1 << 40}
VECTORS = {"[i32]": [3, -1], "[u8]": [1, 255], "[f32]": [0.5], "[i64]": [1 << 40], "[u16]": [65535]}


def camel(name: str) -> str:
    """As generated code names a field."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def value_of(field: Field) -> Any:
    if field.type in NUMBERS:
        return NUMBERS[field.type]
    return {"f32": 0.25, "string": "x"}.get(field.type, VECTORS.get(field.type))


@pytest.mark.parametrize("kind", SCHEMA)
def test_every_field_is_where_the_generated_code_writes_it(kind: str) -> None:
    table, expected = getattr(generated, f"{kind}T")(), {}
    for name, field in SCHEMA[kind].items():
        value = value_of(field)
        numbers_a_union = name.removesuffix("_type") in SCHEMA[kind] and name.endswith("_type")
        if value is not None and not numbers_a_union:
            setattr(table, camel(name), value)
            expected[name] = value
    record = Reader(packed(table), SCHEMA).root(kind)
    got = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in record.items()}
    assert {name: got[name] for name in expected} == expected
    assert expected or kind == "DimensionMetadata"


@pytest.mark.parametrize("kind", SCHEMA)
def test_fields_that_are_left_out_have_the_defaults_of_the_generated_code(kind: str) -> None:
    table = getattr(generated, f"{kind}T")()
    record = Reader(packed(table), SCHEMA).root(kind)
    for name, field in SCHEMA[kind].items():
        if field.type in (*NUMBERS, "f32"):
            assert record[name] == getattr(table, camel(name)), name


def numbers(enumeration: Any) -> dict[int, str]:
    return {v: k for k, v in vars(enumeration).items() if not k.startswith("_")}


def test_numbers_have_the_names_of_the_generated_code() -> None:
    known = numbers(generated.BuiltinOperator)
    assert {i: n for i, n in enumerate(OPERATORS) if n != "-"} == known
    assert dict(enumerate(ELEMENT_TYPES)) == numbers(generated.TensorType)
    assert OPTIONS.items() <= numbers(generated.BuiltinOptions).items()
    assert INDICES.items() <= numbers(generated.SparseIndexVector).items()


def test_an_offset_that_leaves_the_file_is_an_error() -> None:
    model = generated.ModelT()
    model.description, model.subgraphs = "x", [generated.SubGraphT()]
    data = packed(model)
    Reader(data, SCHEMA).root("Model")
    for place in range(0, len(data) - 4):
        broken = data[:place] + struct.pack("<I", 0x7FFFFFF0) + data[place + 4 :]
        with suppress(BrokenBuffer):  # what is read stays inside, or numpy would raise
            Reader(broken, SCHEMA).root("Model")


@pytest.mark.parametrize("size", range(0, 40))
def test_what_is_cut_short_is_an_error(size: int) -> None:
    model = generated.ModelT()
    model.subgraphs = [generated.SubGraphT()]
    with pytest.raises(BrokenBuffer, match=r"bytes at|times"):
        Reader(packed(model)[:size], SCHEMA).root("Model")


def test_tables_that_name_each_other_do_not_multiply() -> None:
    """A kilobyte whose vector names one table 200 times, which names one 200 times."""
    shared = vector_of(200, inner=vector_of(200, inner=None))
    with pytest.raises(BrokenBuffer, match="name each other so often"):
        Reader(shared, {"A": {"b": Field(0, "[B]")}, "B": {"b": Field(0, "[C]")}, "C": C}).root("A")


C = {f"f{i}": Field(i, "i32") for i in range(20)}


def vector_of(count: int, inner: bytes | None) -> bytes:
    """A table whose field 0 is a vector that names the table behind it `count` times."""
    vtable = struct.pack("<HHH", 6, 8, 4)
    head = struct.pack("<I", 4 + len(vtable)) + vtable  # root offset, vtable
    table = struct.pack("<i", len(vtable)) + struct.pack("<I", 4)
    start = len(head) + len(table) + 4
    behind = inner or struct.pack("<I", 8) + struct.pack("<HH", 4, 4) + struct.pack("<i", 4)
    base = start + 4 * count
    target = base + struct.unpack_from("<I", behind)[0]
    names = b"".join(struct.pack("<I", target - (start + 4 * i)) for i in range(count))
    return head + table + struct.pack("<I", count) + names + behind
