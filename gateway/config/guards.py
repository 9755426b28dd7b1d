"""The section `guards` of gateway.yaml: rules and scorers that may refuse a request or an answer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Annotated, Any, Literal, Self, get_args

import orjson
from pydantic import BaseModel, Field, JsonValue, model_validator

from gateway.config.guard_ramps import GuardRampConfig, PromotedAction
from gateway.config.privacy import RedactionPattern, RuleName
from gateway.config.scorers import ScorerConfig
from gateway.config.types import NonEmpty, Positive, Section, Share
from gateway.core.extras import install_command
from gateway.core.guard_ramp import GuardRampDesign
from gateway.core.guards import GuardAction, GuardSide
from gateway.core.open_match import beginnings, longest_match

GuardName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
GuardRule = Literal["secrets", "personal_data", "patterns", "prompt_injection", "length", "language", "tools", "topics"]
GUARD_RULES: frozenset[str] = frozenset(get_args(GuardRule))
IN_PROCESS: frozenset[str] = frozenset({"secrets", "personal_data", "patterns", "prompt_injection", "length"})
"""The rules that the gateway's own process evaluates; all else runs in the process of guards."""
WITH_SPANS: frozenset[str] = frozenset({"secrets", "personal_data", "patterns", "prompt_injection"})
"""The rules that know where in a text they match, so that it can be redacted."""
OF_SCORERS = "scorers."
"""Begins the name of a section of `scorers` that has the name of a rule."""
PERSONAL: tuple[RuleName, ...] = ("email", "phone", "card", "iban")
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "patterns": ("patterns",),
    "personal_data": ("kinds",),
    "length": ("max_chars",),
    "language": ("languages",),
    "tools": ("tools",),
    "topics": ("topics",),
}
_NEEDS_RE2 = f"needs google-re2: {install_command('redaction')}"
_BLOCKED = "{subject} was refused by the guard {guard}. If this is wrong, report the call {id}."
MOST_MATCH_CHARS = 65_536
REFUSING: frozenset[GuardAction] = frozenset({"redact", "block"})
"""The actions with which a call may be refused."""


class ToolRules(Section):
    """The tools that an answer may call, and their arguments."""

    allow: tuple[NonEmpty, ...] | None = None
    """The only tools that may be called. Default: all."""
    forbid: tuple[NonEmpty, ...] = ()
    """Tools that may not be called."""
    arguments: dict[NonEmpty, dict[str, JsonValue]] = Field({})
    """A JSON Schema that the arguments of a call must satisfy, by the tool's name."""


class TopicRules(Section):
    """Topics by their distance to examples."""

    model: NonEmpty
    """The model name of the gateway that makes embeddings; `evals` says how it is reached."""
    examples: Annotated[tuple[NonEmpty, ...], Field(min_length=1, max_length=500)]
    """Texts on the topics that are refused."""


class GuardConfig(Section):
    """A rule or scorer that may say no, as far as its action goes."""

    on: GuardSide
    """Part of the call that the guard judges: the `request` or the `answer`."""
    scorer: NonEmpty
    """A rule (`secrets`, `personal_data`, `patterns`, `prompt_injection`, `length`, `language`, `tools`, `topics`), or
    the name of a section of `scorers`: any scorer of single answers, also a plug-in, an HTTP service or a judge.
    `scorers.NAME` names a section that has the name of a rule."""
    action: GuardAction = "observe"
    """Action on a hit: `observe` (count and record it), `flag` (also name the guard in `x-gateway-guard`), `redact`
    (replace what was found; only for the rules that find a place in a text), `block` (refuse the call)."""
    threshold: float = 0.5
    """Score from which a call counts as a hit. A rule's score is 1 where it matches; a scorer's is 1 where its value is
    worst and 0 where it is best, by its bounds."""
    near: float | None = None
    """Score from which a call counts as a near hit, for labels. Default: half of the threshold."""
    deadline_ms: Positive = 1000.0
    """Milliseconds for one decision of a scorer or of a rule in the process of guards, including the wait for a free
    slot. The rules that the gateway's own process evaluates have no deadline."""
    if_late: Literal["pass", "block"] | None = None
    """Handling of calls for which the guard gives no score: its deadline passes, it raises, it returns no number, its
    process ends, or it is not asked since it failed too often. Default: `block` where the action in force is `block` or
    `redact`, otherwise `pass`."""
    keys: tuple[NonEmpty, ...] | None = None
    """Names of the keys whose calls it judges. Default: all."""
    teams: tuple[NonEmpty, ...] | None = None
    """Teams whose calls it judges. Default: all."""
    models: tuple[NonEmpty, ...] | None = None
    """Model names whose calls it judges. Default: all."""
    before: bool | None = None
    """Decide before the request is sent. Default: yes where the action is `redact` or the rule looks for secrets or
    personal data; otherwise the request is sent meanwhile, and the answer waits for the decision."""
    hold_ms: Annotated[float, Field(ge=0)] = 100.0
    """Longest time for which text of a stream is held before it is judged."""
    hold_chars: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Characters of a stream's text after which they are judged."""
    max_match_chars: Annotated[int, Field(ge=64, le=MOST_MATCH_CHARS)] = 8_192
    """Longest match; the end of a stream's text is held while a match of it may be open. A pattern that may match a
    longer text is refused."""
    respond: Literal["refusal", "error"] | None = None
    """Reply to a blocked caller: an answer as the API's own refusals look, with HTTP 200, or an error with HTTP 400.
    Default: `error` for requests of OpenAI's APIs, otherwise `refusal`."""
    text: Annotated[str, Field(min_length=1, max_length=2_000)] = _BLOCKED
    """Message to a blocked caller. `{subject}` is "The request" or "The answer", `{guard}` the guard's name, `{id}` the
    call's id, by which a mistake can be reported."""
    record: Share = 1.0
    """Share of the calls with a hit, or nearly one, that is recorded, unless `sampling` gives a higher rate. Their
    probability is known, so that they can be labelled.
    """
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 16
    """Decisions at once, per worker, of a guard that is not evaluated in the gateway's own process."""
    patterns: tuple[RedactionPattern, ...] = ()
    """Regular expressions of the rule `patterns`, in RE2 syntax, each with a longest match."""
    kinds: tuple[RuleName, ...] = PERSONAL
    """Kinds of personal data that the rule `personal_data` searches for."""
    max_chars: Annotated[int, Field(ge=1)] | None = None
    """Maximum number of characters of text, for the rule `length`."""
    languages: tuple[Annotated[str, Field(pattern=r"^[a-z]{2}$")], ...] = ()
    """Languages that the rule `language` allows (ISO 639-1)."""
    tools: ToolRules | None = None
    """Tools that the rule `tools` allows and forbids, and their arguments."""
    topics: TopicRules | None = None
    """Topics that the rule `topics` refuses."""
    ramp: GuardRampConfig = GuardRampConfig()
    """Ramp by which `gateway guard promote` takes the guard to a stricter action, and its guardrails."""

    @property
    def rule(self) -> str | None:
        """The rule; None if it is a scorer of the section `scorers`."""
        return self.scorer if self.scorer in GUARD_RULES else None

    @property
    def section(self) -> str | None:
        """The name of its section of `scorers`; None means that it is a rule."""
        return None if self.rule is not None else self.scorer.removeprefix(OF_SCORERS)

    @property
    def in_process(self) -> bool:
        """Whether the gateway's own process evaluates it, without waiting."""
        return self.scorer in IN_PROCESS

    @property
    def decides_before(self) -> bool:
        if self.before is not None:
            return self.before
        return self.action == "redact" or self.scorer in ("secrets", "personal_data")

    def blocks_late(self, action: GuardAction) -> bool:
        """Whether a call for which it gives no score is refused, where this action is in force."""
        return action in REFUSING and self.if_late != "pass"

    def earlier(self) -> GuardConfig:
        """The guard as it was read before `if_late` had no value by default: unset meant `pass`."""
        return self if self.if_late is not None else self.model_copy(update={"if_late": "pass"})

    def begun_as(self, sections: Mapping[str, ScorerConfig], judged_hash: str) -> GuardConfig | None:
        """The guard as a ramp with this hash began with it; None if the ramp is of another config. sections: `scorers`.

        Ramps keep the meaning of `if_late` with which they began.
        """
        readings = (self, self.earlier())
        return next((guard for guard in readings if guard.judged_hash(sections) == judged_hash), None)

    @property
    def near_from(self) -> float:
        return self.threshold / 2 if self.near is None else self.near

    def judges(self, key: str, team: str | None, model: str) -> bool:
        """Whether it judges the calls of a key of this team to this model name."""
        return (
            (self.keys is None or key in self.keys)
            and (self.teams is None or team in self.teams)
            and (self.models is None or model in self.models)
        )

    def config_hash(self, sections: Mapping[str, ScorerConfig]) -> str:
        """12 hex digits of what decides the score, and which scores are hits or nearly so. sections: `scorers`."""
        options: dict[str, Any] = {name: getattr(self, name) for name in sorted(_OPTIONS.get(self.scorer, ()))}
        if self.section is not None and self.section in sections:
            options["section"] = {"use": sections[self.section].use, **sections[self.section].options}
        bounds = {"threshold": self.threshold, "near": self.near_from}
        named = {"scorer": self.scorer, "on": self.on, **bounds, **options}
        text = orjson.dumps(named, default=_plain, option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(text).hexdigest()[:12]

    def judged_hash(self, sections: Mapping[str, ScorerConfig]) -> str:
        """12 hex digits of what decides which calls it would refuse: config_hash, `if_late`, and whose calls it judges.
        sections: `scorers`."""
        named = [self.config_hash(sections), self.if_late, self.keys, self.teams, self.models]
        return hashlib.sha256(orjson.dumps(named)).hexdigest()[:12]

    def refusal_digest(self, sections: Mapping[str, ScorerConfig]) -> str:
        """16 hex digits of what decides which calls it would refuse, and with which text. sections: `scorers`."""
        named = [self.judged_hash(sections), self.deadline_ms, self.text]
        return hashlib.sha256(orjson.dumps(named)).hexdigest()[:16]

    def ramp_design(
        self,
        sections: Mapping[str, ScorerConfig],
        to: PromotedAction | None = None,
        steps: Sequence[float] | None = None,
    ) -> GuardRampDesign:
        """The design of a ramp that begins now. to, steps: in place of the config's. Raises ValueError, which says what
        does not fit."""
        ramp, wanted = self.ramp, to or self.ramp.to
        if wanted == "redact":
            self._refuse_redaction()
        return GuardRampDesign(
            wanted,
            self.action,
            self.judged_hash(sections),
            tuple(ramp.steps if steps is None else steps),
            ramp.soak_s,
            ramp.min_units,
            ramp.max_block_rate,
            ramp.thumbs_down,
            ramp.retries,
            ramp.retry_s,
            ramp.alpha,
        )

    def _refuse_redaction(self) -> None:
        """Raises ValueError where it cannot redact."""
        if self.scorer not in WITH_SPANS:
            raise ValueError(
                f"action redact needs a rule that knows where it matches ({', '.join(sorted(WITH_SPANS))}); "
                f"{self.scorer} judges the whole text: use block, flag or observe"
            )
        if find_spec("re2") is None:
            raise ValueError(f"action redact {_NEEDS_RE2}")
        if self.before is False:
            raise ValueError("before: false cannot redact, since the request would have been sent; remove it")

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        mine = _OPTIONS.get(self.scorer, ())
        for rule, options in _OPTIONS.items():
            foreign = [name for name in options if name in self.model_fields_set and name not in mine]
            if foreign:
                raise ValueError(f"{foreign[0]} is an option of the rule {rule}; this guard's scorer is {self.scorer}")
        missing = [name for name in mine if name != "kinds" and not getattr(self, name)]
        if missing:
            raise ValueError(f"{missing[0]} is missing; the rule {self.scorer} needs it")
        return self

    @model_validator(mode="after")
    def _check_action(self) -> Self:
        if self.action == "redact":
            self._refuse_redaction()
        if self.on == "request" and self.rule in ("tools",):
            raise ValueError("the rule tools judges the calls of an answer; set on: answer")
        if self.before is not None and self.on == "answer":
            raise ValueError("before is an option of guards on requests; remove it")
        if self.ramp.to == "redact" and "ramp" in self.model_fields_set:
            self._refuse_redaction()
        return self

    @model_validator(mode="after")
    def _check_patterns(self) -> Self:
        for pattern in self.patterns:
            longest = longest_match(pattern.regex)
            if longest is None or longest > self.max_match_chars:
                has = "no longest match" if longest is None else f"matches of up to {longest} characters"
                raise ValueError(
                    f"patterns.{pattern.name}: regex {pattern.regex!r} has {has}, and a stream is held for "
                    f"max_match_chars: {self.max_match_chars} at most; bound its repeats, such as {{1,64}} for +"
                )
            beginnings(pattern.regex)
        names = [pattern.name for pattern in self.patterns]
        if len(set(names)) < len(names):
            raise ValueError("patterns: two have the same name")
        return self

    @model_validator(mode="after")
    def _check_text(self) -> Self:
        try:
            self.blocked_text("name", "id")
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise ValueError(f"text: only {{subject}}, {{guard}} and {{id}} may stand in braces: {error}") from None
        if self.near is not None and self.near > self.threshold:
            raise ValueError(f"near {self.near:g} is above the threshold {self.threshold:g}")
        return self

    def blocked_text(self, name: str, call_id: str) -> str:
        subject = "The request" if self.on == "request" else "The answer"
        return self.text.format(subject=subject, guard=name, id=call_id)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)
