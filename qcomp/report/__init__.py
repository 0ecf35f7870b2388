"""What happened to each tensor of a compiled network: errors with their causes, and a page."""
