"""The values of pairs in order: the sequences of a plan and their intervals."""
