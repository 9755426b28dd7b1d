"""Which target answers a call: routing, load balancing, target state, sampling, assignment to arms."""
