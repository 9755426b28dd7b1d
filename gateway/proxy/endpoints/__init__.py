"""The endpoints that are not on the hot path: operational pages, feedback, passthrough, responses by id."""
