"""Runs the network in the directory of this file from Python, without any package.

    net = Network()
    outputs = net.run(net.quantized(0, floats))  # integers, as arrays of the array module
    floats = net.dequantized(0, outputs[0])

Made by qcomp; NAME.h says what the library promises.
"""

from __future__ import annotations

import array
import ctypes
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_ABI = 1
_CODES = {"int8": "b", "int16": "h", "int32": "i"}


class Network:
    """A library that is loaded; one for each thread, as they share no memory."""

    def __init__(self, directory: str | None = None) -> None:
        folder = Path(directory or Path(__file__).parent)
        (path,) = folder.glob(f"{Path(__file__).stem}.manifest.json")
        self.manifest = json.loads(path.read_text(encoding="utf-8"))
        self.inputs, self.outputs = self.manifest["inputs"], self.manifest["outputs"]
        name = self.manifest["name"]
        library = ctypes.CDLL(str(folder / self.manifest["library"]))
        sizes = getattr(library, f"{name}_sizes")
        sizes.restype = ctypes.POINTER(ctypes.c_uint64 * 2)
        if getattr(library, f"{name}_abi")() != _ABI:
            raise RuntimeError(f"{self.manifest['library']} has another interface")
        size, align = sizes().contents
        self._run = getattr(library, f"{name}_run")
        self._memory = ctypes.create_string_buffer(size + align)
        start = ctypes.addressof(self._memory)
        self._arena = ctypes.c_void_p(start + -start % align)
        self._close: Any = None
        if hasattr(library, f"{name}_open"):
            status = getattr(library, f"{name}_open")(self._arena, None)
            if status:
                raise RuntimeError(f"{name}_open returned {status}")
            self._close = getattr(library, f"{name}_close")

    def __del__(self) -> None:
        if getattr(self, "_close", None):
            self._close(self._arena)

    def run(self, *inputs: Any) -> list[array.array[int]]:
        """Integers in, a list of arrays out; inputs are buffers: array.array, bytes, numpy."""
        if len(inputs) != len(self.inputs):
            raise ValueError(f"expected {len(self.inputs)} inputs, got {len(inputs)}")
        given = [_buffer(x, info) for x, info in zip(inputs, self.inputs, strict=True)]
        results: list[array.array[int]] = [
            array.array(_CODES[o["dtype"]], bytes(o["bytes"])) for o in self.outputs
        ]
        made = [ctypes.c_void_p(result.buffer_info()[0]) for result in results]
        status = self._run(*given, *made, self._arena)
        if status:
            raise RuntimeError(f"{self.manifest['run']} returned {status}")
        return results

    def quantized(self, index: int, values: Iterable[float]) -> array.array[int]:
        """Floats of an input, flat, as its integers: divided, rounded half to even, saturated."""
        info = self.inputs[index]
        lowest, highest = _limits(info)
        of = _channels(info)
        result: array.array[int] = array.array(_CODES[info["dtype"]])
        for i, value in enumerate(values):
            scale, offset = of(i)
            steps = (value - offset) / scale / info["scale"]
            steps = 0.0 if math.isnan(steps) else max(-1e9, min(1e9, steps))
            result.append(max(lowest, min(highest, round(steps) + info["zero_point"])))
        return result

    def dequantized(self, index: int, integers: Iterable[int]) -> list[float]:
        """Integers of an output, flat, as floats; a tail (see the header) is not applied."""
        info = self.outputs[index]
        of = _channels(info)
        result = []
        for i, q in enumerate(integers):
            scale, offset = of(i)
            result.append((q - info["zero_point"]) * info["scale"] * scale + offset)
        return result


def _buffer(values: Any, info: dict[str, Any]) -> ctypes.Array[ctypes.c_char]:
    """The address of as many bytes as the input has, copied."""
    raw = bytes(memoryview(values).cast("B"))
    if len(raw) != info["bytes"]:
        raise ValueError(f"input {info['name']}: expected {info['bytes']} bytes, got {len(raw)}")
    return ctypes.create_string_buffer(raw, len(raw))


def _limits(info: dict[str, Any]) -> tuple[int, int]:
    bits = 8 * array.array(_CODES[info["dtype"]]).itemsize
    return -(1 << bits - 1), (1 << bits - 1) - 1


def _channels(info: dict[str, Any]) -> Callable[[int], tuple[float, float]]:
    """Scale and offset of element i: what stands between the caller's values and the integers'."""
    conversion = info.get("conversion")
    if not conversion:
        return lambda i: (1.0, 0.0)
    scale, offset = conversion["scale"], conversion["offset"]
    inner = math.prod(info["shape"][conversion["axis"] + 1 :])
    return lambda i: (scale[i // inner % len(scale)], offset[i // inner % len(scale)])
