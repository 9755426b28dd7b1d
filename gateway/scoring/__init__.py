"""Builds, runs and isolates scorers."""
