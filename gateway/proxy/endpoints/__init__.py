"""Endpoints beside the relay: operational pages, feedback, pass-through, responses by id."""
