"""The SQL of ramps."""
