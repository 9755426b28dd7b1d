"""The endpoints that are not on the hot path: models, health, metrics, feedback, passthrough, responses by id."""
