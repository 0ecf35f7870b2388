"""QDQ graphs as TensorFlow Lite files of integers."""
