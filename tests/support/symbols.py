"""What every library exports, after its name."""

PUBLIC = ("run", "init", "set_parallel_for", "abi", "sizes", "inputs", "outputs")
