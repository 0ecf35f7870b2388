"""How good networks are on labelled data: the float one, the integer one, or both."""
