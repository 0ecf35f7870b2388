"""What is written is what the reader, and the code generated from the schema, read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as generated

from qcomp.formats.flatbuffer import Field, Reader
from qcomp.formats.flatbuffer_writer import write_flatbuffer
from qcomp.formats.tflite import IDENTIFIER, SCHEMA

BIG = 0x0102030405060708
MODEL: dict[str, Any] = {
    "version": 3,
    "description": "of several tables",
    "operator_codes": [{"builtin_code": 3, "version": 1}, {"builtin_code": 9, "version": 4}],
    "buffers": [{}, {"data": np.arange(5, dtype=np.uint8)}],
    "subgraphs": [
        {
            "name": "main",
            "inputs": [0],
            "tensors": [
                {
                    "name": "x",
                    "shape": [1, 2, 3],
                    "type": 9,
                    "buffer": 1,
                    "quantization": {"scale": [0.5, 0.25], "zero_point": [1 << 40, -3]},
                }
            ],
            "operators": [
                {
                    "opcode_index": 1,
                    "inputs": [0, -1],
                    "builtin_options_type": 1,
                    "builtin_options": {"stride_w": 2, "padding": 1},
                }
            ],
        }
    ],
}


def plain(value: Any) -> Any:
    """Records and arrays as dicts and lists."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, tuple):
        return [plain(v) for v in value]
    return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def holds(record: Any, expected: Any) -> None:
    """Every field that was written has its value."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            holds(record[name], value)
    elif isinstance(expected, list):
        assert len(record) == len(expected)
        for a, b in zip(record, expected, strict=True):
            holds(a, b)
    else:
        assert record == plain(expected)


def test_the_reader_finds_what_was_written() -> None:
    data = write_flatbuffer(MODEL, "Model", SCHEMA, IDENTIFIER)
    assert data[4:8] == IDENTIFIER
    holds(plain(Reader(data, SCHEMA).root("Model")), MODEL)


def test_generated_code_finds_what_was_written() -> None:
    data = write_flatbuffer(MODEL, "Model", SCHEMA, IDENTIFIER)
    model = generated.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    assert graph.tensors[0].quantization.zeroPoint.tolist() == [1 << 40, -3]
    assert graph.operators[0].builtinOptions.strideW == 2
    assert graph.operators[0].builtinOptions.dilationWFactor == 1
    assert [code.version for code in model.operatorCodes] == [1, 4]
    assert model.buffers[1].data.tolist() == list(range(5))


def test_bytes_lie_at_multiples_of_16_and_numbers_at_multiples_of_their_size() -> None:
    schema = {"T": {"a": Field(0, "u8"), "v": Field(1, "[u8]"), "w": Field(2, "[i64]")}}
    for size in range(20):
        record = {"a": 1, "v": np.full(size, 0xEE, np.uint8), "w": [BIG]}
        data = write_flatbuffer(record, "T", schema)
        if size:
            assert data.index(b"\xee" * size) % 16 == 0
        assert data.index(BIG.to_bytes(8, "little")) % 8 == 0


def test_a_field_that_the_schema_lacks_is_an_error() -> None:
    with pytest.raises(ValueError, match="Buffer has no fields \\['date'\\]"):
        write_flatbuffer({"date": 1}, "Buffer", SCHEMA)
