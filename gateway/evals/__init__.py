"""The former home of scorers, kept for plug-ins that import from it."""
