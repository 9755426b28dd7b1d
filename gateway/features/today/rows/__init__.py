"""The SQL of hours."""
