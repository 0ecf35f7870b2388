"""What the canonicalize-layout pass is made of, from permutations to the cut."""
