"""Credentials of clouds: signatures and tokens that a transport adds to requests."""
