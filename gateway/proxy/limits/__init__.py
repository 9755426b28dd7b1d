"""Limits of callers: the cost of a call, and leases on the remainders."""
