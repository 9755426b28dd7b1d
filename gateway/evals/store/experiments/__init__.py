"""Rows of experiments: plans, pairs, sequences, and the queries over them."""
