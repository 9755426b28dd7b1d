"""Recorded calls: search, export, follow, erase, the playground, and reading from a notebook."""
