"""A guard's decisions on one call: the part of the record that says what each guard found and what was done. Pure.

A guard is a rule or a scorer that may refuse a request or an answer. Its score is a number that rises with what it
objects to; at the guard's threshold it has a hit, and its action says what follows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from typing import Any, Literal

import orjson

from gateway.core.json_values import as_object
from gateway.core.randomization import keyed_draw

GuardSide = Literal["request", "answer"]
GuardAction = Literal["observe", "flag", "redact", "block"]
GuardFailure = Literal["timeout", "error", "invalid", "crashed", "busy", "breaker_open", "too_large"]
"""Reason why a guard gave no score: its deadline passed; it raised; its score is not a finite number; its process
ended; it had no free slot; its breaker is open; a rule judges no text as large."""
GuardResult = Literal["pass", "near", "hit", "failed"]
"""`near`: below the threshold, and not far below it (`guards.NAME.near`)."""
GUARD = "guard"
"""Upstream of the Target that stands for a guard, the candidate of an experiment: its model is the guard's name, its
variant the digest of what decides which calls it refuses, and with which text."""
ENFORCED: frozenset[GuardAction] = frozenset({"flag", "redact", "block"})
"""The actions for which an answer waits."""
CONTENT_FILTER = "content_filter"
"""The reason for which a blocked answer has ended, in OpenAI's APIs."""


@dataclass(frozen=True, slots=True)
class GuardDecision:
    """A guard's result for one call, and the action taken."""

    guard: str
    """The guard's name in the config."""
    on: GuardSide
    action: GuardAction
    """The action in force for this call: that of the config, or of the guard's ramp for the call's unit."""
    result: GuardResult
    acted: bool
    """Whether the guard acted: the caller got a flag, a mark in place of a text, or a refusal."""
    score: float | None = None
    """The guard's score; None if it gave none."""
    failure: GuardFailure | None = None
    """The reason why it gave no score; None if it gave one."""
    found: tuple[str, ...] = ()
    """Names of the patterns that matched, never the matched text."""
    matches: int = 0
    seconds: float = 0.0
    """Time until the decision; of a stream, the sum over its windows."""
    config_hash: str = ""
    """Hash of what decides the guard's score, and which scores are hits; decisions with different hashes are never
    averaged together."""
    unit: str = ""
    """Keyed digest of the unit that the guard's ramp draws for, while it takes its steps; "" if it takes none."""


def guard_in(target: str) -> str | None:
    """The guard that a target's text, such as "guard/secrets[1f0c…]", stands for; None if it is a model."""
    upstream, slash, model = target.partition("/")
    return model.partition("[")[0] if slash and upstream == GUARD else None


def to_json(decisions: Iterable[GuardDecision]) -> str:
    """The field `guards` of an Exchange."""
    return orjson.dumps(list(decisions)).decode()


def has_found(text: str) -> bool:
    """Whether a rule matched something, by the field `guards` of an Exchange."""
    return '"found":["' in text


def from_json(text: str | None) -> tuple[GuardDecision, ...]:
    """The decisions in the field `guards` of an Exchange; what cannot be read is left out."""
    if not text:
        return ()
    try:
        rows: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        return ()
    return tuple(found for row in (rows if isinstance(rows, list) else ()) if (found := _read(as_object(row))))


_NAMES = frozenset(f.name for f in fields(GuardDecision))


def _read(row: dict[str, Any]) -> GuardDecision | None:
    known = {name: value for name, value in row.items() if name in _NAMES}
    known["found"] = tuple(known.get("found", ()))
    try:
        return GuardDecision(**known)
    except TypeError:
        return None


@dataclass(frozen=True, slots=True)
class GuardRamp:
    """Extent to which a guard's action has been promoted, as its ramp publishes it."""

    action: GuardAction
    """The action of the units below `share`."""
    before: GuardAction
    """The action of the others."""
    share: float
    """Share of units, in [0, 1]."""
    domain: str = ""
    """The purpose of the draws of units; a larger share of the same domain only adds units."""
    secret: bytes = field(default=b"", repr=False)
    """Keys the draws, so that no caller can compute which of its units are acted on; b"" if it is not known."""
    counted: bool = False
    """Whether its steps are being taken: every call that the guard judges is recorded, with its unit."""
    passes_late: bool = False
    """Whether calls for which the guard gives no score pass, since it began when an unset `if_late` meant so."""

    def action_of(self, unit: str) -> GuardAction:
        """The action for a unit's calls. Without the secret, a share of the units is not drawn: all get `before`."""
        if self.share >= 1.0:
            return self.action
        drawn = self.share > 0.0 and self.secret and keyed_draw(self.secret, self.domain, unit) < self.share
        return self.action if drawn else self.before

    def digest_of(self, unit: str) -> str:
        """The unit's name in records: enough to find its calls, and nothing of a caller; "" where it is not counted."""
        if not self.counted or not self.secret:
            return ""
        return blake2b(unit.encode("utf-8", "surrogatepass"), key=self.secret, digest_size=8).hexdigest()
