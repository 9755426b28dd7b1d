"""Implicit feedback: a user's next message as a sign of how good the previous answer was. Rules by language; no I/O.

A rule fires only where a message is plainly a reaction: thanks, "that's wrong", or the same question again. A reaction
that the rules miss counts as no sign, and a message without a sign as a reaction without one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from gateway.config.config import ImplicitLanguage
from gateway.core.json_values import as_list, as_object, content_text
from gateway.features.hooks import Hooks
from gateway.scoring.types import Subject
from gateway.store.rows import Sign, Turn

if TYPE_CHECKING:
    from gateway.features.task import TaskContext

_READ_WORDS = 40
"""Number of words read at the beginning of a message; the rest may be pasted text."""
_MOST_AFTER = 2
"""Number of further words after a reaction, in the same clause, that make it a statement on something else."""
_THANKS_WORDS = 12
"""A longer message is a new question, whose thanks are politeness."""
_SAME_WORD = 0.8
_LONG_WORD = 5
_LONGEST_WORD = 40
"""Characters of a word above which it is not compared: the comparison takes their square."""
_MOST_SLIPS = 20
"""Misspelt words in a repeated question."""


@dataclass(frozen=True, slots=True)
class _Rules:
    """The rules of one language in implicit.toml."""

    lead: re.Pattern[str]
    not_after: frozenset[str]
    spoken: re.Pattern[str]
    """Pattern of speech in a story: a character says it."""
    thanks: re.Pattern[str]
    not_thanks: re.Pattern[str]
    wrong: re.Pattern[str]
    fillers: frozenset[str]


def feedback_hooks(context: TaskContext) -> Hooks:
    languages = context.config.feedback.implicit
    return Hooks(scored=ImplicitFeedback(languages).turn) if languages else Hooks()


class ImplicitFeedback:
    """The rules of some languages."""

    def __init__(self, languages: Sequence[ImplicitLanguage]) -> None:
        known = tomllib.loads((files("gateway.features.feedback") / "implicit.toml").read_text("utf-8"))
        self._rules = [_compiled(known[name]) for name in dict.fromkeys(languages)]
        self._fillers = frozenset[str]().union(*(r.fillers for r in self._rules))

    def signs(self, message: str, earlier: str | None = None) -> tuple[Sign, ...]:
        """Signs in a user's message about the previous answer. earlier: the question that was answered."""
        folded = _folded(message)
        found: list[Sign] = []
        if earlier is not None and self._same_question(folded, _folded(earlier)):
            found.append("repeat")
        start = " ".join(_statements(" ".join(folded.split()[:_READ_WORDS])))
        if any(_begins(r, r.wrong, start) for r in self._rules):
            found.append("wrong")
        elif len(folded.split()) <= _THANKS_WORDS and any(_thanked(r, start) for r in self._rules):
            found.append("thanks")
        return tuple(found)

    def turn(self, subject: Subject) -> Turn | None:
        """The turn of a conversation; None if the exchange is none, or its texts are not recorded."""
        exchange = subject.exchange
        if exchange.role != "served" or exchange.likelihood is not None:
            return None
        stopped = exchange.stream and exchange.outcome == "client_gone"
        texts = list(_texts(subject.request))
        if not texts or texts[-1][0] != "user":
            return _stopped_only(subject) if stopped else None
        caller, scope = exchange.caller, _scope(subject)
        question, reply_to, parent = texts[-1][1], None, None
        signs: tuple[Sign, ...] = ()
        if len(texts) >= 3 and (texts[-2][0], texts[-3][0]) == ("assistant", "user"):
            reply_to = _digest(caller, texts[-3][1], texts[-2][1])
            signs = self.signs(question, texts[-3][1])
        elif len(texts) == 1 and (conversation := _conversation(subject)) is not None:
            parent = _digest(caller, "conversation", conversation)
        asked, answered = _digest(caller, question), _digest(caller, question, subject.completion.text)
        place = (exchange.id, exchange.received, caller, scope)
        return Turn(*place, asked, answered, reply_to, signs, stopped, parent)

    def _same_question(self, one: str, other: str) -> bool:
        """Tells whether two folded messages have the same words in the same order, apart from fillers and
        misspellings."""
        mine, theirs = ([w for w in re.findall(r"[\w']+", text) if w not in self._fillers] for text in (one, other))
        if not mine:  # fillers only: the same message all the same
            return one == other
        if len(mine) != len(theirs):
            return False
        others = [(a, b) for a, b in zip(mine, theirs, strict=True) if a != b]
        return len(others) <= _MOST_SLIPS and all(_slip(a, b) for a, b in others)


def _compiled(language: Mapping[str, Any]) -> _Rules:
    keys = ("thanks", "not_thanks", "wrong")
    thanks, not_thanks, wrong = ("|".join(sorted(language[key], key=len, reverse=True)) for key in keys)
    lead = "|".join(sorted(map(re.escape, language["lead"].split()), key=len, reverse=True))
    return _Rules(
        re.compile(rf"[\s¡]*(?:(?:{lead})(?![\w'])[\s,.!;¡–—-]*)*"),
        frozenset(language["not_after"].split()),
        re.compile(rf"(?<!\w)(?:{'|'.join(language['spoken'].split())})(?!\w)"),
        re.compile(rf"(?:{thanks})(?![\w-])"),
        re.compile(rf"(?<!\w)(?:{not_thanks})"),
        re.compile(rf"(?:{wrong})(?![\w-])"),
        frozenset(language["fillers"].split()),
    )


def _statements(text: str) -> list[str]:
    """Sentences of the message without the questions: "is that wrong?" does not judge an answer."""
    return [part for part in re.findall(r"[^.!?]+[.!?]*", text) if "?" not in part]


def _begins(rules: _Rules, reaction: re.Pattern[str], start: str) -> bool:
    """Tells whether the statements begin with this reaction, after any of the words that lead to one."""
    end = match.end() if (match := rules.lead.match(start)) else 0
    places = [m.start() for m in re.finditer(r"(?<![\w'])[\w¡]", start[: end + 1])]
    return any(
        _is_whole(rules, start[found.end() :]) for at in places if (found := reaction.match(start, at)) is not None
    )


def _is_whole(rules: _Rules, rest: str) -> bool:
    """Tells whether the statement is still a reaction with the words after it. A colon introduces a text to work on."""
    clause, *after = re.split(r"[.,;!()–—…]| - ", rest, maxsplit=1)
    words = clause.split()
    if after and rules.spoken.search(after[0]):
        return False
    return ":" not in clause and len(words) <= _MOST_AFTER and not (words and words[0].split("'")[0] in rules.not_after)


def _thanked(rules: _Rules, start: str) -> bool:
    return ":" not in start and _begins(rules, rules.thanks, start) and not rules.not_thanks.search(start)


def _folded(text: str) -> str:
    return " ".join(text.casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").split())


def _slip(one: str, other: str) -> bool:
    """Tells whether two words may be the same, misspelt. Numbers never are."""
    sizes = len(one), len(other)
    if min(sizes) < _LONG_WORD or max(sizes) > _LONGEST_WORD or any(c.isdigit() for c in one + other):
        return False
    return SequenceMatcher(None, one, other, autojunk=False).ratio() >= _SAME_WORD


def _texts(request: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields role and text of the user's and the assistant's messages; other roles and tool calls are left out."""
    turns = request.get("messages", request.get("input"))
    if isinstance(turns, str):
        yield "user", turns
        return
    for turn in as_list(turns):
        if isinstance(turn, dict) and turn.get("role") in ("user", "assistant"):
            text = content_text(turn.get("content"))
            if text:
                yield str(turn["role"]), text


def _conversation(subject: Subject) -> str | None:
    named = as_object(subject.request.get("metadata")).get("conversation_id")
    return named if isinstance(named, str) and named else subject.exchange.cluster


def _scope(subject: Subject) -> str | None:
    """A digest of the conversation, or else of the end user."""
    conversation = _conversation(subject)
    return subject.exchange.user_digest if conversation is None else _digest("conversation", conversation)


def _digest(caller: str, *texts: str) -> str:
    """A digest of texts, in which white space does not count: clients strip it."""
    joined = "\0".join((caller, *(" ".join(text.split()) for text in texts)))
    return sha256(joined.encode("utf-8", "replace")).hexdigest()[:32]


def _stopped_only(subject: Subject) -> Turn:
    """The turn of a stream that the client left, whose messages are not recorded."""
    e = subject.exchange
    unknown = _digest(e.caller, "exchange", e.id)
    return Turn(e.id, e.received, e.caller, _scope(subject), unknown, unknown, None, (), True)
