"""ONNX import: `import_onnx` gives a FLOAT graph, `inspect_onnx` a description of a model."""

from qcomp.frontends.onnx.importer import import_onnx
from qcomp.frontends.onnx.inspect import Inspection, inspect_onnx

__all__ = ["Inspection", "import_onnx", "inspect_onnx"]
