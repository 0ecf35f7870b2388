"""Float and QDQ graphs out of qcomp: as ONNX models, and as sessions that run them."""

from __future__ import annotations

from qcomp.export.model import export_onnx

__all__ = ["export_onnx"]
