"""Assay Gateway: an OpenAI-compatible gateway that scores the traffic it carries."""

__version__ = "0.1.0"
