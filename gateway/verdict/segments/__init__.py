"""Verdicts on declared segments."""
