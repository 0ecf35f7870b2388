"""Weights and biases of a QDQ graph fitted to data, layer by layer, with the quantized prefix."""
