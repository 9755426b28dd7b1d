"""The SQL of experiments."""
