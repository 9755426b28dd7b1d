"""The SQL of recorded calls."""
