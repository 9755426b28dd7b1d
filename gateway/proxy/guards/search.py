"""Searches texts with the rules of guards, and replaces their matches with marks. Pure.

A text that is JSON (a tool's arguments) is searched value by value, and rebuilt so that it stays JSON.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from gateway.proxy.guards.rules import SpanRule
from gateway.proxy.guards.texts import PartsSlot, Slot
from gateway.proxy.recording.redaction.finder import Match, merge_overlaps
from gateway.proxy.recording.redaction.leaves import Leaf, Leaves, Rebuilding

_MAY_BE_JSON = "{[ \t\n\r"  # an empty text is among them
_NAMED = "secret"
_NAMED_MARK = "[secret]"


@dataclass(slots=True)
class RuleHits:
    """Hits of one rule in one call so far."""

    rule: SpanRule
    redacts: bool
    """Whether its matches are replaced."""
    found: dict[str, None] = field(default_factory=dict)
    """Names of what has matched, in the order in which they were found."""
    matches: int = 0

    def note(self, hits: Sequence[Match]) -> None:
        self.matches += len(hits)
        for hit in hits:
            self.found[hit.rule] = None


def search(slots: Iterable[Slot], rules: Sequence[RuleHits]) -> bool:
    """Notes the rules' matches in these texts, and puts marks where they redact. Returns whether a text changed."""
    changed = False
    for slot in slots:
        if isinstance(slot, PartsSlot):
            changed = _search_parts(slot, rules) or changed
            continue
        value = slot.value
        if type(value) is str and value[:1] not in _MAY_BE_JSON and "\\" not in value:
            new: Any = searched_text(value, rules)
        else:
            new = searched_document(value, rules)
        if new is not value:
            slot.replace(new)
            changed = True
    return changed


def _search_parts(slot: PartsSlot, rules: Sequence[RuleHits]) -> bool:
    """Notes the matches that begin in one part and end in another, and replaces them by a mark in the first."""
    texts = slot.texts
    whole, ends = "".join(texts), list(accumulate(map(len, texts)))
    replaced: list[Match] = []
    for each in rules:
        hits = [hit for hit in each.rule.find(whole) if bisect_right(ends, hit.start) < bisect_left(ends, hit.end)]
        each.note(hits)
        replaced += hits if each.redacts else []
    if not replaced:
        return False
    slot.replace(list(_without(merge_overlaps(replaced), texts)))
    return True


def _without(hits: Sequence[Match], texts: Sequence[str]) -> Iterator[str]:
    """The parts of a text without the matches in the whole; each is replaced by a mark in its first part."""
    start = at = 0
    for text in texts:
        end, cut = start + len(text), list[Match]()
        while at < len(hits) and hits[at].start < end:
            hit = hits[at]
            mark = hit.mark if hit.start >= start else ""
            cut.append(Match(max(0, hit.start - start), min(end, hit.end) - start, hit.rule, mark))
            if hit.end > end:
                break  # it goes on in the next part
            at += 1
        yield marked(text, cut)
        start = end


def searched_text(text: str, rules: Sequence[RuleHits]) -> str:
    """The text with marks; the same object if nothing is replaced."""
    replaced: list[Match] = []
    for each in rules:
        hits = each.rule.find(text)
        if hits:
            each.note(hits)
            if each.redacts:
                replaced += hits
    return marked(text, merge_overlaps(replaced)) if replaced else text


def searched_document(value: Any, rules: Sequence[RuleHits]) -> Any:
    """Searches a text that may be JSON, or a JSON value: the same object if nothing is replaced."""
    leaves = Leaves()
    skeleton = leaves.gather(value)
    texts = [_searched_leaf(leaf, rules) for leaf in leaves.found]
    if all(text is leaf.text for text, leaf in zip(texts, leaves.found, strict=True)):
        return value
    return Rebuilding(leaves.found, texts).of(skeleton)


def _searched_leaf(leaf: Leaf, rules: Sequence[RuleHits]) -> str:
    if leaf.secret and leaf.text:
        named = [each for each in rules if each.rule.secret_members]
        whole = [Match(0, len(leaf.text), _NAMED, _NAMED_MARK)]
        for each in named:
            each.note(whole)
        if any(each.redacts for each in named):
            return _NAMED_MARK
    text = searched_text(leaf.text, rules)
    if text is leaf.text and leaf.unescaped is not None and leaf.unescaped != leaf.text:
        behind = searched_text(leaf.unescaped, rules)
        if behind is not leaf.unescaped:
            return behind
    return text


def marked(text: str, hits: Sequence[Match]) -> str:
    """The text with the mark of each match in its place."""
    parts, at = [], 0
    for hit in hits:
        parts += [text[at : hit.start], hit.mark]
        at = hit.end
    return "".join([*parts, text[at:]])
