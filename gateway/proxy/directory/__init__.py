"""Reads the dynamic keys from the stream server, and keeps a snapshot of them."""
