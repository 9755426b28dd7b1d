"""The choice of a call's target: routing, load balancing, target state, sampling, assignment to arms."""
