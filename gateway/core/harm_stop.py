"""The stop of a plan for harm as it is stored, among the plan's sequences. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import orjson

from gateway.core.plan import HarmStop
from gateway.core.sequence import SequenceChanges, SequenceName


def harm_name(plan: str) -> SequenceName:
    """Name under which the stop is stored. plan: its hash."""
    return SequenceName(plan, "", "harm", "-")


def harm_from_json(text: str | None) -> HarmStop | None:
    return None if text is None else HarmStop(**orjson.loads(text))


def harm_stored(texts: Mapping[SequenceName, str], plan: str) -> HarmStop | None:
    """The stop among the states of a plan's sequences; None if there has been none."""
    return harm_from_json(texts.get(harm_name(plan)))


def harm_changes(plan: str, stop: HarmStop) -> SequenceChanges:
    return SequenceChanges({harm_name(plan): (stop.pairs, asdict(stop))}, [], {}, [])
