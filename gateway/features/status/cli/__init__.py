"""The verbs status and dead."""
