"""What files of other tools look like, which importers and exporters share; it knows no graph."""
