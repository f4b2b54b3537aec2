"""Pixels to vectors: models, runtimes, weights."""
