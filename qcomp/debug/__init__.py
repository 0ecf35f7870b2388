"""From a bad figure to its cause: what a compiled network is, and where it goes wrong."""
