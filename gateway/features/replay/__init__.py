"""Replays: datasets, targets, and the comparison of their answers."""
