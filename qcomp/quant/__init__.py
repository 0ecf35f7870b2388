"""Quantization mathematics in plain numpy: parameters, fixed point, observers, metrics. Knows no graph."""
