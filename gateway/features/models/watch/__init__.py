"""Whether a model has changed, from the sampled calls of its clients: one watch for each alias and target."""
