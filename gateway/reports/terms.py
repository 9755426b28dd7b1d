"""Plain names for the words at which a reader of a report stops, with the meanings of docs/contributing/glossary.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlainTerm:
    name: str
    """Name for a reader who does not know the word."""
    meaning: str


TERMS: Mapping[str, PlainTerm] = {
    "aa": PlainTerm(
        "control against itself",
        "the control called a second time through the shadow path, to see whether the path itself shifts scores",
    ),
    "effective": PlainTerm(
        "independent pairs", "pairs that are as informative as this many independent ones; pairs of one user are alike"
    ),
    "losses": PlainTerm("lost records", "the check that both arms lost about as few records on their way to the store"),
    "noise floor": PlainTerm(
        "control asked twice", "the difference between two answers of the control to one request: the effect of chance"
    ),
    "srm": PlainTerm(
        "shares of traffic", "the check that each arm got the share of units that was planned (sample ratio mismatch)"
    ),
    "withheld": PlainTerm(
        "without a comparison", "a request that was drawn for a pair and has none: not sent, lost, or not scored"
    ),
}
