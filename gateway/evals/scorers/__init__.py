"""The former name of `gateway.scorers`: plug-ins that import from here continue to work, with a warning."""

from __future__ import annotations

import warnings
from typing import Any

import gateway.scorers as _scorers


def __getattr__(name: str) -> Any:
    value = getattr(_scorers, name)
    warnings.warn(
        f"gateway.evals.scorers.{name} is now gateway.scorers.{name}; the old name will be removed in 1.0",
        DeprecationWarning,
        stacklevel=2,
    )
    return value
