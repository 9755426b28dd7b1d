"""Presents what the store holds: terminal, JSON, HTML, CSV. Computes no statistics of its own."""
