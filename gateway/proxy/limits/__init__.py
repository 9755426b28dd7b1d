"""Limits of callers: what a call costs, and leases of what is left."""
