"""A run: requests to the targets, paced and retried, in this process or on a cluster."""
