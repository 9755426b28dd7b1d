"""The score sheet of a replay, and the findings of each candidate. Pure."""
