"""TFLite files: `import_tflite` gives a FLOAT or QDQ graph, `inspect_tflite` a description."""

from qcomp.frontends.tflite.importer import import_tflite
from qcomp.frontends.tflite.inspect import inspect_tflite

__all__ = ["import_tflite", "inspect_tflite"]
