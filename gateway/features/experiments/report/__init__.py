"""The report of an experiment: built once, shown in the terminal, as HTML and as JSON."""
