"""One record without its secrets. Pure; in slices, so that whoever runs it can let others have their turn between."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import orjson

from gateway.config.privacy import Content, RedactionConfig
from gateway.core.completion import ToolCall, completion_of
from gateway.core.exchange import Attempt, Exchange, Feedback
from gateway.proxy.recording.redaction.finder import Finder, Match, apart
from gateway.proxy.recording.redaction.forms import unfinished
from gateway.proxy.recording.redaction.leaves import Leaf, Leaves, Rebuilding

CUT = "[cut]"
_OURS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_LONGEST_ID = 256


@dataclass(frozen=True, slots=True)
class RedactedRecord:
    """record: what may leave. counts: what was replaced, by rule."""

    record: Exchange | Feedback
    counts: Counter[str] = field(default_factory=Counter)


Slices = Generator[None, None, RedactedRecord]
_Texts = Generator[None, None, Any]


class Redactor:
    """What the records of a caller become whose content is `redacted` or `metadata`."""

    def __init__(self, content: Content, config: RedactionConfig) -> None:
        self.content = content
        self.deadline_s = config.deadline_s
        self._finder = Finder(config)
        self._numbered = config.pseudonyms

    def slices(self, record: Exchange | Feedback) -> Slices:
        """Runs to its end in steps of a few milliseconds at most, but for one: the reading of a large body."""
        if self.content == "metadata":
            yield
            return RedactedRecord(without_content(record))
        pass_ = _Pass(self._finder, self._numbered)
        redacted = yield from (_feedback(record, pass_) if isinstance(record, Feedback) else _exchange(record, pass_))
        return RedactedRecord(redacted, pass_.counts)


def _exchange(e: Exchange, pass_: _Pass) -> _Texts:
    answer = completion_of(e)
    yield
    request = yield from _request(e, pass_)
    said = [
        answer.text,
        answer.reasoning,
        answer.refusal,
        answer.error,
        [[c.name, c.arguments] for c in answer.tool_calls],
    ]
    (text, reasoning, refusal, error, calls), _ = yield from pass_.redacted(said, e.truncated or e.outcome != "ok")
    told = [e.client_id, e.reference, [a.failure for a in e.attempts]]
    (client_id, reference, failures), _ = yield from pass_.redacted(told)
    clean = replace(
        answer,
        text=text,
        reasoning=reasoning,
        refusal=refusal,
        error=error,
        tool_calls=tuple(ToolCall(c.id[:_LONGEST_ID], *said) for c, said in zip(answer.tool_calls, calls, strict=True)),
    )
    return replace(
        e,
        request=request,
        response=clean.to_json(),
        form="assembled",
        client_id=client_id,
        reference=reference,
        unit=anonymous(e.unit),
        attempts=tuple(replace(a, failure=f) for a, f in zip(e.attempts, failures, strict=True)),
    )


def _request(e: Exchange, pass_: _Pass) -> _Texts:
    """The body as it is where nothing is found in it. One that is no JSON, because it was cut, is a text."""
    try:
        value = orjson.loads(e.request)
    except orjson.JSONDecodeError:
        (text,), _ = yield from pass_.redacted([e.request.decode("utf-8", "replace")], open_end=True)
        return text.encode()
    yield
    value, changed = yield from pass_.redacted(value)
    return orjson.dumps(value) if changed else e.request


def _feedback(f: Feedback, pass_: _Pass) -> _Texts:
    (label, comment, correction), _ = yield from pass_.redacted([f.label, f.comment, f.correction])
    return replace(f, label=label, comment=comment, correction=correction)


class _Pass:
    """One record's pass: what was found in it, so that the same value has the same number everywhere in it."""

    def __init__(self, finder: Finder, numbered: bool) -> None:
        self.counts: Counter[str] = Counter()
        self._finder = finder
        self._numbers: dict[tuple[str, str], int] | None = {} if numbered else None

    def redacted(self, document: Any, open_end: bool = False) -> _Texts:
        """The document without what was found, and whether that is another one. open_end: its texts may be cut off in
        the midst of something."""
        leaves = Leaves()
        gathered = leaves.gather(document)
        texts = []
        changed = False
        for leaf in leaves.found:
            text = yield from self._leaf(leaf, open_end)
            changed = changed or text != leaf.text
            texts.append(text)
        return (Rebuilding(leaves.found, texts).of(gathered), True) if changed else (document, False)

    def _leaf(self, leaf: Leaf, open_end: bool) -> _Texts:
        if leaf.named:
            return self._marked(leaf.text, [Match(0, len(leaf.text), "key", "[key]")]) if leaf.text else ""
        text, hits = leaf.text, (yield from self._hits(leaf.text, open_end))
        if leaf.plain is not None and leaf.plain != text:
            behind = yield from self._hits(leaf.plain, open_end)
            if len(behind) > len(hits):  # an escape hid something, or the letter that it ends in did
                text, hits = leaf.plain, behind
        return self._marked(text, hits) if hits else text

    def _hits(self, text: str, open_end: bool) -> _Texts:
        found: list[Match] = []
        for some in self._finder.hits(text):
            found += some
            yield
        if open_end and text and (at := unfinished(text)) < len(text):
            found.append(Match(at, len(text), "cut", CUT))
        return apart(found)

    def _marked(self, text: str, hits: list[Match]) -> str:
        parts, at = [], 0
        for hit in hits:
            parts += [text[at : hit.start], self._mark(hit, text[hit.start : hit.end])]
            at = hit.end
            self.counts[hit.rule] += 1
        return "".join([*parts, text[at:]])

    def _mark(self, hit: Match, value: str) -> str:
        if self._numbers is None or hit.mark != f"[{hit.rule}]":
            return hit.mark
        seen = (hit.rule, value)
        of_rule = sum(rule == hit.rule for rule, _ in self._numbers)
        return f"[{hit.rule}-{self._numbers.setdefault(seen, of_rule + 1)}]"


def without_content(record: Exchange | Feedback) -> Exchange | Feedback:
    """Nothing that a client, a person or a model wrote; what was counted and measured stays."""
    if isinstance(record, Feedback):
        return replace(record, label=None, comment=None, correction=None)
    return replace(
        record,
        request=b"{}",
        response=b"",
        form="raw",
        client_id=None,
        reference=None,
        unit=anonymous(record.unit),
        attempts=tuple(_bare(a) for a in record.attempts),
    )


def _bare(attempt: Attempt) -> Attempt:
    """An upstream's error may repeat what it was sent."""
    return replace(attempt, failure=attempt.failure and attempt.failure.partition(": ")[0][:100])


def anonymous(unit: str) -> str:
    """An id of ours as it is; a client's conversation id, which may be a person's name, as a digest of it."""
    return unit if _OURS.fullmatch(unit) else sha256(unit.encode("utf-8", "surrogatepass")).hexdigest()[:16]
