"""ONNX import: `import_onnx` gives a FLOAT graph, `inspect_onnx` a description of a model."""

from qcomp.frontends.onnx.importer import import_onnx
from qcomp.frontends.onnx.inspect import inspect_onnx

__all__ = ["import_onnx", "inspect_onnx"]
