"""What the activations of a float graph look like: from data, or from batch-norm statistics."""
