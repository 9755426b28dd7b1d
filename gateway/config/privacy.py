"""The sections of gateway.yaml that say what may be kept: `redaction`, and how long the store keeps it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from gateway.config.types import Positive, Section

Content = Literal["full", "redacted", "metadata"]
RuleName = Literal["email", "phone", "card", "iban", "key"]
RULES: tuple[RuleName, ...] = get_args(RuleName)
_MOST_MEMORY = 8 << 20  # of one compiled pattern


class RedactionPattern(Section):
    """A form of one's own. name: of its mark in what is kept. regex: in RE2's syntax, which takes linear time: no
    look-around, no back-references.

    replace: what stands in its place; None: the name in brackets.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    regex: Annotated[str, Field(min_length=1, max_length=2000)]
    replace: Annotated[str, Field(max_length=200)] | None = None

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        if self.name in RULES:
            raise ValueError(f"name {self.name} is a rule's; take another")
        found = compiled(self.regex).search("")
        if found is not None:
            raise ValueError(f"regex {self.regex!r} matches an empty text: it would match everywhere")
        return self


def compiled(regex: str) -> Any:
    """A pattern of google-re2. Raises ValueError where it cannot be used."""
    try:
        import re2
    except ImportError as error:
        raise ValueError("own patterns need google-re2: pip install 'assay-gateway[redaction]'") from error
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MOST_MEMORY
    try:
        return re2.compile(regex, options)
    except re2.error as error:
        said = error.args[0] if error.args else error
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise ValueError(f"regex {regex!r} is none that runs in linear time (RE2): {text}") from error


class RedactionConfig(Section):
    """default: of keys that do not say how much of their content is kept. rules: the built-in forms looked for.
    patterns: forms of one's own, looked for besides.

    pseudonyms: the same value has the same number within one exchange ([email-1]), so that it can be followed.
    deadline_s: for one exchange; beyond it nothing of its content is kept.
    """

    default: Content = "redacted"
    rules: tuple[RuleName, ...] = RULES
    patterns: tuple[RedactionPattern, ...] = ()
    pseudonyms: bool = False
    deadline_s: Positive = 10.0

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [p.name for p in self.patterns]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"patterns: {', '.join(twice)} stands twice")
        return self


def content_of(own: Content | None, redaction: RedactionConfig | None) -> Content:
    """How much is kept of what a key's callers say. own: the key's own word; None: it says nothing."""
    return own or (redaction.default if redaction else "full")


class StoreConfig(Section):
    """url: None: SQLite in the data directory. keep_days, max_gb: how long, how much is kept of exchanges, the oldest
    go first; None: without bound. Sums, and what verdicts rest on, stay."""

    url: str | None = None
    keep_days: Annotated[float, Field(ge=1)] | None = None
    max_gb: Positive | None = None
