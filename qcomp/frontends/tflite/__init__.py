"""TFLite files: TensorFlow Lite's, LiteRT's, of floats and of integers."""

from qcomp.frontends.tflite.importer import import_tflite

__all__ = ["import_tflite"]
