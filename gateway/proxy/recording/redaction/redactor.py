"""Redacts one record: the rules for each caller's records, and a way to run them without delaying calls.

`redacted` runs a redaction in slices between calls, or on a thread if the body is large. It fails closed: if anything
goes wrong, the record loses its content.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import accumulate
from typing import Any, Literal

import orjson

from gateway.config.config import Config
from gateway.config.derive import content_of
from gateway.config.privacy import Content, RedactionConfig
from gateway.core.completion import ToolCall, completion_of
from gateway.core.exchange import Attempt, Exchange, Feedback
from gateway.proxy.recording.redaction.finder import Finder, Match, merge_overlaps, unfinished
from gateway.proxy.recording.redaction.leaves import Leaf, Leaves, Rebuilding
from gateway.proxy.request.auth import OPEN

log = logging.getLogger(__name__)

LARGE = 256 * 1024
"""Bytes of a body whose parsing takes milliseconds in one piece: such a record is redacted on a thread."""
CUT = "[cut]"
_TURN_S = 0.001
_SHORT = 64
"""Characters of a text of which the same record may hold many, such as the names of members."""
_OUR_ID = re.compile(r"run_[0-9a-f]{24}|[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_MAX_ID = 256

RedactionFailure = Literal["timeout", "error"]


@dataclass(frozen=True, slots=True)
class RedactedRecord:
    """A record that may leave the process."""

    record: Exchange | Feedback
    counts: Counter[str] = field(default_factory=Counter)
    """Replacements by rule."""


Slices = Generator[None, None, RedactedRecord]
_Texts = Generator[None, None, Any]


class Redactor:
    """Redacts the records of callers whose content is `redacted` or `metadata`. Pure."""

    def __init__(self, content: Content, config: RedactionConfig) -> None:
        self.content = content
        self.deadline_s = config.deadline_s
        self._finder = Finder(config)
        self._numbered = config.pseudonyms

    def slices(self, record: Exchange | Feedback) -> Slices:
        """Runs in steps of a few milliseconds at most, except for the parsing of a large body."""
        if self.content == "metadata":
            yield
            return RedactedRecord(without_content(record))
        pass_ = _Pass(self._finder, self._numbered)
        clean = yield from (_feedback(record, pass_) if isinstance(record, Feedback) else _exchange(record, pass_))
        return RedactedRecord(clean, pass_.counts)


def redactors_by_caller(config: Config, before: Mapping[str, Redactor]) -> dict[str, Redactor]:
    """The redactor of each caller; a caller without one keeps its content in full.

    before: of the config that was in force. A caller that the new config does not name keeps its redactor, because its
    calls may still be in flight.
    """
    contents: dict[str, Content] = {key.name: content_of(key.content, config.redaction) for key in config.keys}
    if config.open:
        contents.setdefault(OPEN.name, content_of(None, config.redaction))
    rules = config.redaction or RedactionConfig()
    built = {content: Redactor(content, rules) for content in set(contents.values()) if content != "full"}
    removed = {caller: redactor for caller, redactor in before.items() if caller not in contents}
    return removed | {caller: built[content] for caller, content in contents.items() if content in built}


def redactor_by_content(config: Config) -> Callable[[Content], Redactor | None]:
    """Finds the redactor of callers that the config does not name, by the part of their content that is recorded."""
    rules = config.redaction or RedactionConfig()
    built: dict[Content, Redactor] = {}

    def of(content: Content) -> Redactor | None:
        if content == "full":
            return None
        if content not in built:
            built[content] = Redactor(content, rules)
        return built[content]

    return of


async def redacted(
    redactor: Redactor, record: Exchange | Feedback, size: int
) -> tuple[RedactedRecord, RedactionFailure | None]:
    """The record as it may leave. After a failure it has no content, and the failure is returned with it."""
    try:
        if size > LARGE:
            return await asyncio.to_thread(_at_once, redactor, record), None
        return await _in_turns(redactor, record), None
    except TimeoutError:
        failure: RedactionFailure = "timeout"
    except Exception as error:  # whatever it is, nothing unredacted leaves; its text may hold what was to be redacted
        log.error("redaction failed (%s); record %s is kept without content", type(error).__name__, record.id)
        failure = "error"
    return RedactedRecord(without_content(record)), failure


async def _in_turns(redactor: Redactor, record: Exchange | Feedback) -> RedactedRecord:
    slices = redactor.slices(record)
    turn = time.monotonic()
    deadline = turn + redactor.deadline_s
    while True:
        try:
            next(slices)
        except StopIteration as stop:
            done: RedactedRecord = stop.value
            return done
        now = time.monotonic()
        if now > deadline:
            raise TimeoutError
        if now - turn > _TURN_S:
            await asyncio.sleep(0)
            turn = time.monotonic()


def _at_once(redactor: Redactor, record: Exchange | Feedback) -> RedactedRecord:
    slices = redactor.slices(record)
    deadline = time.monotonic() + redactor.deadline_s
    while True:
        try:
            next(slices)
        except StopIteration as stop:
            done: RedactedRecord = stop.value
            return done
        if time.monotonic() > deadline:
            raise TimeoutError


def _exchange(e: Exchange, pass_: _Pass) -> _Texts:
    answer = completion_of(e)
    yield
    request = yield from _request(e, pass_)
    texts = [
        answer.text,
        answer.reasoning,
        answer.refusal,
        answer.error,
        [[c.name, c.arguments] for c in answer.tool_calls],
    ]
    cut = e.truncated or (e.outcome != "ok" and (e.stream or e.outcome != "blocked"))
    (text, reasoning, refusal, error, calls), _ = yield from pass_.redacted(texts, cut)
    others = [e.client_id, e.reference, [a.failure for a in e.attempts], e.upstream_id, e.fingerprint, e.model_returned]
    (client_id, reference, failures, upstream_id, fingerprint, model_returned), _ = yield from pass_.redacted(others)
    named = [answer.finish_reason, answer.model, answer.upstream_id, [c.id for c in answer.tool_calls]]
    (finish_reason, model, answer_id, call_ids), _ = yield from pass_.redacted(named)
    tool_calls = tuple(ToolCall(id_[:_MAX_ID], *new) for id_, new in zip(call_ids, calls, strict=True))
    clean = replace(
        answer,
        text=text,
        reasoning=reasoning,
        refusal=refusal,
        error=error,
        tool_calls=tool_calls,
        finish_reason=finish_reason,
        model=model,
        upstream_id=answer_id,
    )
    return replace(
        e,
        request=request,
        response=clean.to_json(),
        form="assembled",
        client_id=client_id,
        reference=reference,
        upstream_id=upstream_id,
        unit=anonymous(e.unit),
        attempts=tuple(replace(a, failure=f) for a, f in zip(e.attempts, failures, strict=True)),
        fingerprint=fingerprint,
        model_returned=model_returned,
    )


def _request(e: Exchange, pass_: _Pass) -> _Texts:
    """The body, byte for byte if nothing is found in it. A body that was cut is not JSON, and is redacted as text."""
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


@dataclass(slots=True)
class _Searched:
    """A text and the replacements in it."""

    text: str
    hits: list[Match]

    def ends_in_match(self) -> bool:
        return any(hit.end == len(self.text) for hit in self.hits)


def _complete(hit: Match, parts: list[_Searched], ends: list[int], text: str) -> bool:
    """Whether a match across parts is an address that ends with its part, and the sentence that follows."""
    first = bisect_right(ends, hit.start)
    return hit.rule == "email" and parts[first].ends_in_match() and text[ends[first]].isupper()


class _Pass:
    """The redaction of one record, in which the same value gets the same number everywhere."""

    def __init__(self, finder: Finder, numbered: bool) -> None:
        self.counts: Counter[str] = Counter()
        self._finder = finder
        self._clean: set[str] = set()
        """Short texts of this record in which nothing is found."""
        self._numbers: dict[tuple[str, str], int] | None = {} if numbered else None

    def redacted(self, document: Any, open_end: bool = False) -> _Texts:
        """The redacted document, and whether it differs. open_end: its texts may break off within a secret."""
        leaves = Leaves()
        skeleton = leaves.gather(document)
        searched: list[_Searched] = []
        for leaf in leaves.found:
            if leaf.text in self._clean and not (leaf.secret or open_end):
                searched.append(_Searched(leaf.text, []))
            else:
                searched.append((yield from self._leaf(leaf, open_end)))
        for part in leaves.parts:
            yield from self._across([searched[at] for at in part])
        texts = [self._marked(each.text, each.hits) for each in searched]
        changed = any(text != leaf.text for text, leaf in zip(texts, leaves.found, strict=True))
        return (Rebuilding(leaves.found, texts).of(skeleton), True) if changed else (document, False)

    def _leaf(self, leaf: Leaf, open_end: bool) -> _Texts:
        if leaf.secret:
            return _Searched(leaf.text, [Match(0, len(leaf.text), "key", "[key]")] if leaf.text else [])
        text, hits = leaf.text, (yield from self._hits(leaf.text, open_end))
        if leaf.unescaped is not None and leaf.unescaped != text:
            behind = yield from self._hits(leaf.unescaped, open_end)
            if len(behind) > len(hits):  # an escape, or the letter that it ends in, hid something
                text, hits = leaf.unescaped, behind
        if not hits and not open_end and len(leaf.text) <= _SHORT:
            self._clean.add(leaf.text)
        return _Searched(text, hits)

    def _across(self, parts: list[_Searched]) -> _Texts:
        """Adds matches that begin in one part of a content and end in another: the first part gets the mark, the others
        none."""
        text = "".join(part.text for part in parts)
        ends = list(accumulate(len(part.text) for part in parts))
        across: list[Match] = []
        for window in self._finder.hits_across(text, ends):
            across += [hit for hit in window if not _complete(hit, parts, ends, text)]
            yield
        if not across:
            return
        for part, end in zip(parts, ends, strict=True):
            begin = end - len(part.text)
            across += [replace(hit, start=begin + hit.start, end=begin + hit.end) for hit in part.hits]
            part.hits = []
        for hit in merge_overlaps(across):
            self._divide(hit, text[hit.start : hit.end], parts, ends)

    def _divide(self, hit: Match, value: str, parts: list[_Searched], ends: list[int]) -> None:
        first, last = bisect_right(ends, hit.start), bisect_left(ends, hit.end)
        mark = self._mark(hit, value) if last > first else hit.mark
        for at in range(first, last + 1):
            begin = ends[at] - len(parts[at].text)
            start, end = max(hit.start, begin) - begin, min(hit.end, ends[at]) - begin
            if start < end:
                parts[at].hits.append(Match(start, end, hit.rule, mark))
                mark = ""

    def _hits(self, text: str, open_end: bool) -> _Texts:
        found: list[Match] = []
        for window in self._finder.hits(text):
            found += window
            yield
        if open_end and text and (at := unfinished(text)) < len(text):
            found.append(Match(at, len(text), "cut", CUT))
        return merge_overlaps(found)

    def _marked(self, text: str, hits: list[Match]) -> str:
        if not hits:
            return text
        parts, at = [], 0
        for hit in hits:
            parts += [text[at : hit.start], self._mark(hit, text[hit.start : hit.end])]
            at = hit.end
            self.counts[hit.rule] += hit.mark != ""
        return "".join([*parts, text[at:]])

    def _mark(self, hit: Match, value: str) -> str:
        if self._numbers is None or hit.mark != f"[{hit.rule}]":
            return hit.mark
        seen = (hit.rule, value)
        of_rule = sum(rule == hit.rule for rule, _ in self._numbers)
        return f"[{hit.rule}-{self._numbers.setdefault(seen, of_rule + 1)}]"


def without_content(record: Exchange | Feedback) -> Exchange | Feedback:
    """The record without anything that a client, a person or a model wrote; counts and measurements stay."""
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
        user_digest=None,
        attempts=tuple(_without_detail(a) for a in record.attempts),
    )


def _without_detail(attempt: Attempt) -> Attempt:
    """An upstream's error may repeat the request."""
    return replace(attempt, failure=attempt.failure and attempt.failure.partition(": ")[0][:100])


def anonymous(unit: str) -> str:
    """One of the gateway's ids as it is; a client's conversation id, which may be a person's name, as its digest."""
    return unit if _OUR_ID.fullmatch(unit) else sha256(unit.encode("utf-8", "surrogatepass")).hexdigest()[:16]
