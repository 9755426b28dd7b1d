"""Worlds of traffic in which the product's verdicts are played: how often they err, and how often they answer."""
