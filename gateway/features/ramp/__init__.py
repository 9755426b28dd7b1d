"""Ramps: steps, evidence, the decision and webhooks."""
