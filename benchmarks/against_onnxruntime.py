"""Latency of qcomp and of onnxruntime's int8 and float32, interleaved on one pinned thread.

    QCOMP_ZOO=... python benchmarks/against_onnxruntime.py [NETWORK] [--rounds N]

onnxruntime quantizes with its own static quantizer (QDQ, per channel, u8 activations), on the same
calibration images. Medians of a quiet machine; each round calls every contestant once.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from zoo_report import load_zoo

import qcomp
from qcomp.targets.cpu.jit import aligned_arena

CALIBRATION_SAMPLES = 16
WARM_UP = 5


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds of one sample each."""

    def __init__(self, name: str, samples: np.ndarray) -> None:
        self.feeds: Iterator[dict[str, np.ndarray]] = iter({name: s[None]} for s in samples)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


def quantized_by_onnxruntime(model: Path, samples: np.ndarray, folder: Path) -> Path:
    """A QDQ model in `folder`, batch bound to 1."""
    proto = onnx.load(model)
    for value in proto.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    fixed, prepared, quantized = (folder / f"{n}.onnx" for n in ("fixed", "prepared", "quantized"))
    onnx.save(proto, fixed)
    quant_pre_process(fixed, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        quantized,
        Reader(proto.graph.input[0].name, samples),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return quantized


def session(model: Path, x: np.ndarray) -> Callable[[], Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    running = onnxruntime.InferenceSession(str(model), options)
    feed = {running.get_inputs()[0].name: x}
    return lambda: running.run(None, feed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", nargs="?", default="mobilenetv2_tf")
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    network = load_zoo().load(options.network)
    samples, _ = network.data("calibration", CALIBRATION_SAMPLES)
    net = qcomp.compile(str(network.model), calibration=samples)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    arrays = [
        net.quantized(samples[:1]),
        *(np.empty(o.shape, o.dtype) for o in net.outputs),
        aligned_arena(net.arena_bytes),
    ]
    with tempfile.TemporaryDirectory() as folder:
        quantized = quantized_by_onnxruntime(network.model, samples, Path(folder))
        contestants = {
            "qcomp": net.entry().bound(arrays),
            "onnxruntime int8": session(quantized, samples[:1]),
            "onnxruntime float32": session(network.model, samples[:1]),
        }
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(WARM_UP + options.rounds):
            for name, run in contestants.items():
                began = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - began)
    medians = {n: 1e3 * statistics.median(s[WARM_UP:]) for n, s in seconds.items()}
    for name, median in medians.items():
        print(f"{name:20s} {median:8.3f} ms   qcomp / it = {medians['qcomp'] / median:.2f}")


if __name__ == "__main__":
    main()
