"""The verbs for recorded calls."""
