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
from typing import Any

import orjson

from gateway.core.prices import list_date
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


@dataclass(frozen=True, slots=True)
class RetirementTable:
    """A dated list of retirements."""

    date: date
    retirements: Mapping[str, Mapping[str, Retirement]]
    """Retirements by kind of upstream and the name of the model, which may end in a star."""


def retirement_table(raw: Mapping[str, Any]) -> RetirementTable:
    """The table of a list in the form of list_retirements.json. Raises ValueError that names the first mistake."""
    rows, sources = raw.get("retirements"), raw.get("sources", {})
    if not isinstance(rows, Mapping) or not all(isinstance(of, Mapping) for of in (sources, *rows.values())):
        raise ValueError("retirements: expected an object of kinds of upstreams, each an object of models")
    day = list_date(raw.get("date"))
    return RetirementTable(day, {
        kind: {
            model: _listed_retirement(f"retirements.{kind}.{model}", row, f"{sources.get(kind)}, by the list of {day}")
            for model, row in of.items()
        }
        for kind, of in rows.items()
    })  # fmt: skip


def _listed_retirement(at: str, row: Any, source: str) -> Retirement:
    try:
        day, successor = row
        if not isinstance(successor, str | None):
            raise ValueError(successor)
        return Retirement(date.fromisoformat(day), successor, source)
    except (TypeError, ValueError):
        raise ValueError(
            f'{at}: expected [day, successor or null], such as ["2027-01-14", null]; got {row!r}'
        ) from None


def listed(kind: str) -> Mapping[str, Retirement]:
    """The retirements of one kind of upstream, by the name of the model, which may end in a star.

    Reads the file at every call: only when a config is read.
    """
    return shipped_retirements().retirements.get(kind, {})


def shipped_retirements() -> RetirementTable:
    """The list that ships with the gateway, read from its file."""
    return retirement_table(orjson.loads(files("gateway.core").joinpath("list_retirements.json").read_bytes()))


def retirement_of(model: str, known: Mapping[str, Retirement]) -> Retirement | None:
    """The row of this name; else of the longest name with a star that it matches."""
    found = known.get(model)
    if found is None and (pattern := pattern_of(model, known)) is not None:
        return known[pattern]
    return found
