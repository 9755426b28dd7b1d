"""Days on which providers stop serving a model, and the models that they recommend in its place. Pure.

The data is list_retirements.json, with the date of the list. By kind of upstream it has the provider's page, as
`evidence` where the rows were read (the page, or what quotes it), and by model the day and the recommended model; null:
none could be read. Only announced days are in it: a provider's "not before" is left out. A name may end in a star.
Providers move dates without notice: `retires` of a target says otherwise. To renew the list, read each page again,
correct the rows and the evidence, and set `date`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from importlib.resources import files

import orjson

from gateway.core.wildcards import pattern_of

OWN = "gateway.yaml"
"""Source of a day that the config says."""


@dataclass(frozen=True, slots=True)
class Retirement:
    """The end of a model at its provider."""

    day: date
    """The day (UTC) on which it stops answering."""
    successor: str | None = None
    """The provider's name for the model that it recommends; None if not known."""
    source: str = OWN

    @property
    def unix_s(self) -> float:
        """The beginning of that day."""
        return datetime.combine(self.day, time(), UTC).timestamp()

    def days(self, today: date) -> int:
        """Days from today (UTC) until then; negative: it is over."""
        return (self.day - today).days

    def when(self, today: date) -> str:
        """ "retires in 41 days (2027-01-09)", "retires today (…)" or "retired 3 days ago (…)"."""
        days = self.days(today)
        if days == 0:
            return f"retires today ({self.day})"
        count = f"{abs(days)} day{'' if abs(days) == 1 else 's'}"
        return f"retires in {count} ({self.day})" if days > 0 else f"retired {count} ago ({self.day})"


def listed(kind: str) -> Mapping[str, Retirement]:
    """The retirements of one kind of upstream, by the name of the model, which may end in a star.

    Reads the file at every call: only when a config is read.
    """
    table = orjson.loads(files("gateway.core").joinpath("list_retirements.json").read_bytes())
    source = f"{table['sources'].get(kind)}, by the list of {table['date']}"
    rows = table["retirements"].get(kind, {})
    return {model: Retirement(date.fromisoformat(day), then, source) for model, (day, then) in rows.items()}


def retirement_of(model: str, known: Mapping[str, Retirement]) -> Retirement | None:
    """The row of this name; else of the longest name with a star that it matches."""
    found = known.get(model)
    if found is None and (pattern := pattern_of(model, known)) is not None:
        return known[pattern]
    return found
