"""Models compared on a fixed number of items: intervals of one look, and verdicts that share the error."""
