"""Shadow requests: when they are sent, to whom, and within which budget."""
