"""The section `store` of gateway.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gateway.config.types import Positive, Section


class StoreConfig(Section):
    """The database that holds exchanges, scores and experiments. Score sums and the evidence of verdicts are
    never deleted."""

    url: str | None = None
    """A `postgresql://` or `sqlite:///` URL. Default: SQLite in the data directory."""
    keep_days: Annotated[float, Field(ge=1)] | None = None
    """Days after which exchanges are deleted. Default: never."""
    max_gb: Positive | None = None
    """Size of the store beyond which the oldest exchanges are deleted. Default: unlimited."""
