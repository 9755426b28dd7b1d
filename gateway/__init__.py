"""Assay Gateway: an OpenAI-compatible gateway that scores the traffic it carries."""

from importlib import import_module as _import_module
from typing import Any as _Any

__version__ = "0.1.0"


def __getattr__(name: str) -> _Any:
    """`gateway.read`, imported when it is used: a serving process needs no database and no pandas."""
    if name == "read":
        return _import_module("gateway.features.calls.exports.notebook").read
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
