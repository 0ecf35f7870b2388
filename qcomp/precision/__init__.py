"""How much each layer's rounding costs the outputs, and a choice of bits that makes use of it."""
