"""Experiments: plans, pairs, sequences, gates and the verdict."""
