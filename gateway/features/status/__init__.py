"""The state of the whole system, and dead letters."""
