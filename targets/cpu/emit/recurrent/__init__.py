"""Recurrent layers: a loop over steps, whose code does not grow with them.

In a step the products of the hidden state come first (product.py), as a vector of sums in memory,
then the cells (cells.py), a vector of them at a time, whose values are in values.py. run.py is the
loop, and spec.py says what the code depends on and how scratch memory and weights lie.

Meaning: qcomp.ir.evaluate.integer_recurrent.
"""
