"""The verbs for keys, teams and organizations."""
