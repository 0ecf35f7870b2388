"""Parts of the canonicalize-layout pass, from permutations to the minimum cut."""
