"""Recipes: what decides the fields of a configuration that are "auto"."""
