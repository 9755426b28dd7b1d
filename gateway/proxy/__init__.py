"""Room 1: answers clients. Knows nothing of scores."""
