"""What single values of gateway.yaml may be, and what every section has in common. The sections are in config.py."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A mapping of known keys: others are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s{}\"\\]+$")]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+")]


def number(value: Any) -> Any:
    """Numbers are written as numbers: "half" and "0.5" are mistakes, not values."""
    if isinstance(value, str | bool):
        raise ValueError(f"expected a number, got {value!r}")
    return value


Weight = Annotated[float, BeforeValidator(number), Field(gt=0)]
