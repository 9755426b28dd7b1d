"""A report as one page that needs nothing else: inline SVG, no script, everything escaped."""

from gateway.evals.experiments.html.document import html

__all__ = ["html"]
