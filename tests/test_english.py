"""The English of the repository, as far as a program can judge it: docstrings are sentences, words that the style guide
replaces do not occur, and the name of a test states its rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.quick
ROOT = Path(__file__).parent.parent
PYTHON = ("gateway", "tests", "bench", "docs", "deploy")
"""Folders whose Python files are read."""
PAGES = (
    *(
        "README.md",
        "AGENTS.md",
        "CHANGELOG.md",
        "changes/*.md",
        ".github/*.md",
        "docs/*.md",
        "docs/contributing/*.md",
        "docs/contributing/adr/*.md",
        "gateway/**/README.md",
    ),
    *("gateway/**/*.jinja", "grafana/alerts/*.yml"),
)
"""Files that consist of prose."""

_LEXEMES = re.compile(
    r"""#[^\n]*"""
    r'''|[rbfuRBFU]{0,2}"""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*"""'''
    r"""|"[^"\\\n]*(?:\\.[^"\\\n]*)*"|'[^'\\\n]*(?:\\.[^'\\\n]*)*'""",
    re.DOTALL,
)
"""Comments and literals of a Python file, in their order."""


class Piece(NamedTuple):
    """A comment, a text or a docstring."""

    line: int
    text: str
    docstring: bool = False
    around: str = ""
    """The signature above a docstring and the fields below it, whose names it may describe."""


@cache
def pieces(path: Path) -> tuple[Piece, ...]:
    """The prose of a Python file: its comments, texts and docstrings."""
    return tuple(_pieces(path.read_text("utf-8")))


def _pieces(text: str) -> Iterator[Piece]:
    line, counted = 1, 0
    for found in _LEXEMES.finditer(text):
        start, end = found.span()
        line, counted = line + text.count("\n", counted, start), start
        lexeme = found.group()
        if '"""' in lexeme[:4] and _is_docstring(text, start, end):
            above = max(text.rfind("def ", 0, start), 0)
            yield Piece(line, lexeme.removeprefix("r")[3:-3].strip(), True, text[above:start] + text[end : end + 2000])
        else:
            yield Piece(line, lexeme)


def _is_docstring(text: str, start: int, end: int) -> bool:
    """Whether a literal is a statement of its own, and not a value or an argument."""
    line_start = text.rfind("\n", 0, start) + 1
    before = text[:line_start].rstrip()[-1:]
    alone = not text[line_start:start].strip() and text[end : end + 1] in ("", "\n", " ")
    return alone and (before == ":" if text[start] == "r" else before not in "([{,=+")


@cache
def python_files() -> tuple[Path, ...]:
    return tuple(path for folder in PYTHON for path in sorted((ROOT / folder).rglob("*.py")))


_NO_SUBJECT = re.compile(
    "although|and|as|because|but|by|else|for|from|he|her|his|however|if|in|into|it|its|like|nor|not|of|on|or|otherwise|"
    "she|so|than|that|their|them|they|though|through|to|unless|until|what|whatever|when|where|whereas|which|whichever|"
    "while|who|whoever|whom|whose|why|with|without",
    re.IGNORECASE,
)
"""The prepositions, pronouns, conjunctions and question words with which a description of a thing does not begin."""
_PARAMETERS = re.compile(r"(\w+)(?:, \w+)*: ")
_FORMULA = re.compile(r"(?:ln|rho|mu|lambda|mean|[a-z])(?: of\b|[ (=_^]|$)|[\w ]+ → ")
_VALUE_FIRST = re.compile(r"""(?:None|True|False|-?\d(?:\.\d)?|"\w*"|\(\)|\[\]|\{\}): |(?:None|"") if """)
_CLAUSE_OF_A_VALUE = re.compile(
    r"""(None|True|False|b?""|\(\)|\[\]|\{\}): ((?:it|they|there|this|that|nothing|nobody|none|no \w+)"""
    r"""(?: is| are| was| were| has| have| had| does| do| did| cannot| can| may| must))\b"""
)
_END = re.compile(r"""[.…?!:]["`')\]]*$""")


def fault(doc: Piece) -> str:
    """The reason why a docstring is not a sentence; "" if it is one."""
    text = " ".join(doc.text.split())
    first = re.split(r"[\s,;:]", text, maxsplit=1)[0]
    if clause := _CLAUSE_OF_A_VALUE.search(text):
        return f'has "{clause[0]} …"; write "{clause[1]} if {clause[2]} …"'
    named = _PARAMETERS.match(text)
    if named and re.search(rf"\b{named[1]}\b", doc.around):
        return ""
    if _NO_SUBJECT.fullmatch(first):
        return f'begins with "{first}"; begin with the verb or the noun that it is about'
    if _VALUE_FIRST.match(text):
        return 'begins with a value; write "Name of the thing; None if there is none"'
    if re.fullmatch("[a-z]+", first) and not _FORMULA.match(text):
        return f'begins with "{first}"; begin with a capital letter'
    if not _END.search(text) and "\n    " not in doc.text.rpartition("\n\n")[2]:
        return "has no full stop at its end"
    return ""


def test_docstrings_are_sentences() -> None:
    """A docstring begins with a verb or a noun, or with the names of parameters, and ends with a full stop."""
    found = [
        f"{path.relative_to(ROOT)}:{doc.line}: the docstring {why}: {doc.text[:60]}"
        for path in python_files()
        for doc in pieces(path)
        if doc.docstring and doc.text and (why := fault(doc))
    ]
    assert not found, "\n".join(["write a full sentence, or delete the docstring", *found])


# Each expression of the style guide's table that does not occur in prose, with what to write instead.
_REFUSED = (
    (r"beside", "next to, alongside"),
    (r"anew", "again"),
    (r"for ever", "forever"),
    (r"so many", "the number, or this number"),
    (r"of late", "recently"),
    (r"bef(?:ell|alls?|allen)", "happened to"),
    (r"dearer", "more expensive"),
    (r"whoever", "the person or the program"),
    (r"the one before", "the previous one"),
    (r"(?:is|are|was|were) said", "is shown, logged, listed or reported"),
    (r"surely", "certainly, or the probability"),
    (r"heals?", "recovers"),
    (r"none does", "none, or if none"),
    (r"limits? of time", "deadline, timeout"),
    (r"outbox|outgoing messages", "WriteBatcher, batch"),
    (r"calm", "closed (of a breaker), unchanged"),
    (r"bur(?:y|ies|ied) (?:it|them|the|an?|entr\w+|letters?|records?)", "dead_letter, dead letters"),
    (r"deposed|lets? go of", "LeaseLost, release"),
    (r"stands?(?!\s+(?:for|in|out|still)\b)(?!-)", "is"),
    (r"(?<!there )(?<!which )(?<!that )(?:is|are|was|were) no (?!longer\b|more\b|other\b|\w+er than\b)", "is not a"),
)
_REFUSED_WORDS = re.compile(rf"\b(?:{'|'.join(f'({pattern})' for pattern, _ in _REFUSED)})\b", re.IGNORECASE)
_ALLOWED = {
    ("test_yaml_text.py", "surely"): "a part of a path that does not exist",
    ("test_shard.py", "of late"): "the name of a value",
}
"""Texts that are data, by the name of the file and the words."""


@cache
def pages() -> tuple[Path, ...]:
    return tuple(path for pattern in PAGES for path in sorted(ROOT.glob(pattern)))


def prose(path: Path) -> Iterator[Piece]:
    """Texts for readers: a literal without a space is a name, and this file has the refused words themselves."""
    if path.suffix != ".py":
        yield Piece(1, path.read_text("utf-8"))
    elif path != Path(__file__):
        yield from (piece for piece in pieces(path) if " " in piece.text.strip("\"'"))


def refused(path: Path) -> Iterator[str]:
    for piece in prose(path):
        for found in _REFUSED_WORDS.finditer(piece.text):
            if (path.name, found.group().lower()) not in _ALLOWED:
                line = piece.line + piece.text.count("\n", 0, found.start())
                around = " ".join(piece.text[max(found.start() - 30, 0) : found.end() + 30].split())
                instead = _REFUSED[(found.lastindex or 0) - 1][1]
                yield f'{path.relative_to(ROOT)}:{line}: "{found.group()}" in "{around}": write {instead}'


def test_refused_words_do_not_occur() -> None:
    found = [line for path in (*python_files(), *pages()) for line in refused(path)]
    assert not found, "\n".join(["the style guide has other words for these", *found])


_LONGEST_NAME = 60
_NAME = re.compile(r"^ *(?:async )?def (test_(\w+))", re.MULTILINE)
_NO_STATEMENT = re.compile(r"(?:what|who|whom|whose|which|how|why|of)_")


def test_names_of_tests_are_statements() -> None:
    """A name says what holds: `a_stored_verdict_stays`, and not `what_is_stored` or
    `of_two_verdicts_the_last_counts`.
    """
    found = [
        f"{path.relative_to(ROOT)}: {name[1]}: name the rule, beginning with its subject, in 60 characters at most"
        for path in python_files()
        if path.name.startswith("test_")
        for name in _NAME.finditer(path.read_text("utf-8"))
        if len(name[2]) > _LONGEST_NAME or _NO_STATEMENT.match(name[2])
    ]
    assert not found, "\n".join(found)
