"""Metrics, logging and tracing of both programs."""
