"""Prompts for a judge model, with untrusted text fenced, and the reading of its verdicts. Contains no scorer."""
