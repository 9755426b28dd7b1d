"""`gateway evaluate`: reads, scores, stores, and runs the features' work."""
