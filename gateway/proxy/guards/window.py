"""One text of a stream, released up to where no match can still be open. Pure.

Offsets count the characters of the text since its beginning. Released text is kept as far as an open match may need it,
so that every match is seen from its beginning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from gateway.proxy.guards.search import RuleHits, searched_document
from gateway.proxy.recording.redaction.finder import Match, merge_overlaps

CONTEXT = 512
"""Characters before the end of what was released that are searched again."""
_BLOCK = "-----BEGIN"
_BLOCK_END = re.compile(r"-----END[^-\n]{0,60}-----")
_WORD_END = re.compile(r"(?=\s)")
_Found = Sequence[tuple[RuleHits, Sequence[Match]]]


class TextWindow:
    """A text that arrives in pieces, the rules that search it, and the offset up to which it may be released."""

    def __init__(self, rules: Sequence[RuleHits], max_match_chars: int) -> None:
        self._rules = rules
        self._most = max_match_chars
        self._text = ""
        self._base = 0  # offset of the first character of _text
        self._from = 0  # offset from which the text is searched
        self._left = 0  # offset up to which the text has left
        self._marks: list[Match] = []  # in order: what is replaced, at offsets in the whole text
        self._inside: re.Pattern[str] | None = None  # ends a match that is too long to be held; all before is dropped
        self.released = 0
        """Offset up to which the text may leave."""

    @property
    def end(self) -> int:
        return self._base + len(self._text)

    @property
    def pending(self) -> int:
        """Characters that have arrived and may not leave yet."""
        return self.end - self.released

    def add(self, text: str) -> tuple[int, int]:
        """Takes a further piece, and returns its span."""
        start = self.end
        self._text += text
        return start, self.end

    def advance(self, *, final: bool) -> None:
        """Searches the received text, and advances `released`. final: nothing follows."""
        if self._inside is not None and not self._dropped(self._inside):
            return
        text = self._text[self._from - self._base :]
        found = [(each, each.rule.find(text)) for each in self._rules]
        open_at = len(text) if final else self._open_at(text, found)
        too_long = len(text) - open_at > self._most
        if too_long:
            open_at = self._too_long(text, found, open_at)
        before, shift = self.released, self._from
        self.released = max(before, shift + open_at)
        for each, hits in found:
            fresh = [hit for hit in hits if before < shift + hit.end and hit.end <= open_at]
            each.note(fresh)
            if each.redacts:
                moved = [Match(shift + h.start, shift + h.end, h.rule, h.mark) for h in fresh]
                self._marks = merge_overlaps([*self._marks, *moved])
        self._keep_context(found)

    def _open_at(self, text: str, found: _Found) -> int:
        """Offset in the searched text from which on a match may be open."""
        open_at = len(text)
        for each, hits in found:
            reaching = (hit.start for hit in hits if hit.end == len(text))
            open_at = min(open_at, each.rule.open_from(text), *reaching)
        while across := [h.start for _, hits in found for h in hits if h.start < open_at < h.end]:
            open_at = min(across)  # a match stays whole
        return open_at

    def _too_long(self, text: str, found: _Found, open_at: int) -> int:
        """Offset up to which the text is released although a match may be open: more than `max_match_chars` are not
        held.

        A match that reaches the end counts as it is, and where it is replaced, the text is dropped up to the end of the
        match. Without a match, all but the last characters are released.
        """
        reaching = [(each, hit) for each, hits in found for hit in hits if hit.end == len(text)]
        if not reaching:
            return max(open_at, len(text) - CONTEXT)
        for each, hit in reaching:
            if each.redacts:
                self._inside = _BLOCK_END if text.startswith(_BLOCK, hit.start) else _WORD_END
        return len(text)

    def _dropped(self, ends: re.Pattern[str]) -> bool:
        """Drops the received part of the match that is too long. Returns whether it has ended."""
        begin = self.released - self._base
        back = 0 if ends is _WORD_END else 80  # the mark of its end may have begun in what was dropped
        match = next((m for m in ends.finditer(self._text, max(0, begin - back)) if m.end() >= begin), None)
        end = len(self._text) if match is None else match.end()
        if end > begin:
            self._marks.append(Match(self.released, self._base + end, "", ""))
        self.released = self._base + end
        if match is None:
            return False
        self._inside, self._from = None, self.released
        return True

    def _keep_context(self, found: _Found) -> None:
        """Sets the offset from which the text is searched next: a match near the end may still grow."""
        begin = self.released - CONTEXT
        for _, hits in found:
            begin = min([begin, *(self._from + h.start for h in hits if self._from + h.end > begin)])
        self._from = max(self._from, begin, self.released - self._most)
        self._forget()

    def text(self, start: int, end: int) -> str:
        """Returns the released form of a span. A mark is placed where its match began."""
        return "".join(self._parts(start, end))

    def _parts(self, start: int, end: int) -> Iterator[str]:
        at = start
        for mark in self._marks:
            if mark.end <= start or mark.start >= end:
                continue
            if mark.start >= start:
                yield self._between(at, mark.start)
                yield mark.mark
            at = max(at, min(mark.end, end))
        yield self._between(at, end)

    def _between(self, start: int, end: int) -> str:
        return self._text[start - self._base : end - self._base] if end > start else ""

    def leave(self, offset: int) -> None:
        """Notes that the text before the offset has left."""
        self._left = offset
        self._marks = [mark for mark in self._marks if mark.end > offset]
        self._forget()

    def drop_held(self) -> None:
        """Forgets what has not left: something else follows what has."""
        self._text = self._text[: max(0, self._left - self._base)]
        self._marks = [mark for mark in self._marks if mark.start < self._left]
        self.released = self._left
        self._from, self._inside = min(self._from, self._left), None

    def _forget(self) -> None:
        keep = min(self._left, self._from, self.released)
        if keep - self._base > CONTEXT:
            self._text, self._base = self._text[keep - self._base :], keep


class WholeText:
    """A text that is released only once it is complete, such as a tool's arguments: so that it stays JSON. No client
    can use a part of it. Used like a TextWindow."""

    def __init__(self, rules: Sequence[RuleHits]) -> None:
        self._rules = rules
        self._pieces: list[str] = []
        self._new: str | None = None  # what stands in place of the whole; None if it leaves as it is
        self.end = 0
        self.released = 0

    @property
    def pending(self) -> int:
        return self.end - self.released

    def add(self, text: str) -> tuple[int, int]:
        start = self.end
        self._pieces.append(text)
        self.end += len(text)
        return start, self.end

    def advance(self, *, final: bool) -> None:
        if final:
            whole = "".join(self._pieces)
            new = searched_document(whole, self._rules)
            self._new = None if new is whole else str(new)
            self._pieces = [whole]
            self.released = self.end

    def text(self, start: int, end: int) -> str:
        """Returns the released form of a span. The complete replacement takes the place of the first piece."""
        if self._new is not None:
            return "" if start else self._new
        return self._pieces[0][start:end]

    def leave(self, offset: int) -> None:
        pass

    def drop_held(self) -> None:
        """Drops the text if it is not complete: none of it has left."""
        if not self.released:
            self._pieces, self.end = [], 0
