"""The conditions of any verdict: each is red, unknown or green."""
