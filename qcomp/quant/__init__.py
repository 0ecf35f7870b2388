"""Quantization mathematics in plain numpy; knows no graph."""
