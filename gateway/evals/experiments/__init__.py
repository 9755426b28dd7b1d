"""Experiments judged: pairs joined in order, sequences that continue, gates, and one verdict."""
