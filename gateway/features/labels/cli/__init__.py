"""The verbs for labels and judges."""
