"""ONNX Runtime as the reference of integer networks, on every machine."""

from __future__ import annotations

import onnxruntime


def exact_session(model: bytes, *, signed: bool = False) -> onnxruntime.InferenceSession:
    """One thread, no warnings, and exact sums.

    Without VNNI it adds products of u8 and s8 in 16 bits that saturate. Asked for exact sums it
    takes weights without a sign instead, also of QLinearMatMul up to opset 20; activations that
    are `signed` have exact sums anyway, and are not taken then.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not signed:
        options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
