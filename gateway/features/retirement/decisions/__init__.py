"""Drafts of experiments with decision models."""
