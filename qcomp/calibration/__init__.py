"""Ranges and moments of the activations of a float graph, from data or batch-norm statistics."""
