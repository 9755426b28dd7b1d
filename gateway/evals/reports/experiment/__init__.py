"""The report of an experiment or a replay: terminal, JSON and HTML."""
