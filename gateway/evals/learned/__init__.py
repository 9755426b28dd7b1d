"""A learned model of what a judge would say: features, trees, training, and the probability of being judged."""
