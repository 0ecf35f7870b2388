"""Changes of an ONNX model that keep it a message: fields, names, numbers, operators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import onnx
from google.protobuf.message import Message

WHOLE = [0, 1, -1, 2, 3, 7, -2, 255, 256, 1 << 20, 1 << 31, -(1 << 31), (1 << 31) - 1]
WHOLE += [1 << 40, 1 << 62, -(1 << 63), (1 << 63) - 1]
REAL = [0.0, -0.0, 1.0, -1.0, 1e38, -1e38, float("nan"), float("inf"), -float("inf"), 1e-45]
TEXTS = ["", "x", "NOTSET", "SAME_UPPER", "\0", "é" * 50]
BYTES = [b"", b"\xff\xfe", b"SAME_UPPER", b"wrap", b"linear", b"cubic"]
OPERATORS = sorted({s.name for s in onnx.defs.get_all_schemas() if s.domain == ""})
UNINTERESTING = {"raw_data", "doc_string", "producer_name", "producer_version"}


def mutated(model: onnx.ModelProto, rng: random.Random) -> bytes:
    """The bytes of a copy with one to five changes, and now and then some wrong bytes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 5])):
        with suppress(ValueError, TypeError, OverflowError, IndexError):  # what protobuf refuses
            _change(copy, rng)
    data = bytearray(copy.SerializeToString())
    if data and rng.random() < 0.1:
        for _ in range(rng.choice([1, 4, 16])):
            data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def _change(model: onnx.ModelProto, rng: random.Random) -> None:
    if rng.random() < 0.1 and model.graph.node:
        rng.choice(model.graph.node).op_type = rng.choice(OPERATORS)
        return
    message, field, value = rng.choice(list(_fields(model)))
    if _is_list(value):
        _change_list(value, model, rng)
    elif field.message_type is not None or rng.random() < 0.2:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _other(value, model, rng))


def _change_list(values: Any, model: onnx.ModelProto, rng: random.Random) -> None:
    index = rng.randrange(len(values))
    match rng.randrange(4):
        case 0:
            del values[index]
        case 1 if isinstance(values[index], Message):
            values.add().CopyFrom(values[index])
        case 1:
            values.append(values[index])
        case 2 if not isinstance(values[index], Message):
            other = rng.randrange(len(values))
            values[index], values[other] = values[other], values[index]
        case _ if not isinstance(values[index], Message):
            values[index] = _other(values[index], model, rng)


def _other(value: Any, model: onnx.ModelProto, rng: random.Random) -> Any:
    match value:
        case bool():
            return not value
        case int():
            return rng.choice([*WHOLE, value + 1, value - 1, 2 * value, -value])
        case float():
            return rng.choice([*REAL, value * 1e10, -value])
        case str():
            names = [n for node in model.graph.node for n in (*node.input, *node.output)]
            return rng.choice([*TEXTS, *names, value + "x"])
        case _:
            return rng.choice([*BYTES, value + b"x", value[:-1]])


def _fields(message: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Every field that is set, with its message, through all that it holds."""
    for field, value in message.ListFields():
        if field.name not in UNINTERESTING:
            yield message, field, value
        if field.message_type is not None:
            for part in value if _is_list(value) else [value]:
                yield from _fields(part)


def _is_list(value: Any) -> bool:
    return hasattr(value, "extend")
