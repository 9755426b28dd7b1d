"""Blind labelling: an item without any hint at who gave the answer, the verdicts that people type, and blind sheets.

Sheets are CSV and JSONL, to be filled in elsewhere; exports of labels have the same forms. Pure but for the files.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import orjson
from rich.console import Group, RenderableType
from rich.text import Text

from gateway.core.conversation import turns
from gateway.core.decided import DECISION_APIS, AskedQuestion, answered_bytes, option_name, shown_answers
from gateway.core.errors import CannotRun
from gateway.core.randomization import draw
from gateway.core.sanitize import cell, plain, to_json
from gateway.features.labels.rows import Subject
from gateway.store.query import Found, right_answer

NO_TEXT = "(no text)"
OF_REQUEST = "(the request alone is judged)"
"""Text in the place of the answer, where labels are about requests."""
HELP: dict[Subject, str] = {
    "exchange": "g good · b bad · 0 … 1 between · s skip · q stop; a comment may follow",
    "pair": "1 the first is better · 2 the second · t a tie · s skip · q stop; a comment may follow",
}
_GOOD = {"g": 1.0, "good": 1.0, "y": 1.0, "yes": 1.0, "b": 0.0, "bad": 0.0, "n": 0.0, "no": 0.0}
_BETTER = {"1": 0.0, "first": 0.0, "2": 1.0, "second": 1.0, "t": 0.5, "tie": 0.5, "neither": 0.5, "both": 0.5}
_SKIP, _STOP = ("s", "skip"), ("q", "quit", "stop")


@dataclass(frozen=True, slots=True)
class BlindItem:
    """A question with its answer, or with the two answers of a pair."""

    id: str
    question: tuple[tuple[str, str], ...]
    """(role, text) of each turn before the answer."""
    answers: tuple[str, ...]
    """One, or a pair's two in the order in which they are shown."""
    swapped: bool = False
    """The pair's second answer is shown first."""
    reference: str = ""
    """The right answer; "" if none is known."""
    options: tuple[str, ...] = ()
    """Options of a decision's question, of which people pick one; () where they judge an answer."""
    decided: str = ""
    """The option that the decision took, which is not shown."""


@dataclass(frozen=True, slots=True)
class LabelVerdict:
    value: float | None
    """The verdict in [0, 1], 1 best; for a pair, the preference for its second answer. None if skipped."""
    label: str | None = None
    comment: str | None = None
    stop: bool = False
    """The labeller wants to stop; there is no verdict."""


def of_exchange(exchange: Found) -> BlindItem:
    question, reference = tuple(turns(exchange["request"])), right_answer(exchange) or ""
    return BlindItem(exchange["id"], question, (answer_text(exchange),), reference=reference)


def of_request(exchange: Found) -> BlindItem:
    return BlindItem(exchange["id"], tuple(turns(exchange["request"])), (OF_REQUEST,))


def of_decision(exchange: Found, question: AskedQuestion) -> BlindItem | None:
    """A decision's question without its answer; None if the decision has none that can be used."""
    _, answered = answered_bytes(exchange["api"], exchange["request"], exchange["response"])
    decided = next((answer for asked, answer, _ in answered if asked == question), "")
    names, shown = option_names(question), tuple(turns(exchange["request"]))
    return BlindItem(exchange["id"], shown, (), options=names, decided=decided) if decided in names else None


def option_names(question: AskedQuestion) -> tuple[str, ...]:
    return tuple(map(option_name, question.options))


def can_be_picked(question: AskedQuestion) -> bool:
    """Whether each option has a name of its own: `true` and `"true"` have the same."""
    names = {name.casefold() for name in option_names(question)}
    return question.kind != "predicate" and len(names) == len(question.options)


def of_pair(scorer: str, served: Found, other: Found) -> BlindItem:
    """The pair of a served exchange and its second answer. The id of the second one is the pair's id."""
    swapped = shown_swapped(scorer, other["id"])
    answers = (answer_text(served), answer_text(other))
    shown = answers[::-1] if swapped else answers
    return BlindItem(other["id"], tuple(turns(served["request"])), shown, swapped, right_answer(served) or "")


def shown_swapped(scorer: str, pair_id: str) -> bool:
    """Whether the pair's second answer is shown first. The order is a hash of the id: every labeller sees the same one,
    and a verdict in a returned sheet keeps its meaning."""
    return draw(f"label-order:{scorer}", pair_id) < 0.5


def answer_text(exchange: Found) -> str:
    """The answer as judge models see it: text, refusal and tool calls; of a decision, its answers in words."""
    if exchange.get("api") in DECISION_APIS:
        _, answered = answered_bytes(exchange["api"], exchange["request"], exchange["response"])
        return "\n".join(shown_answers(answered)) or NO_TEXT
    tool_calls = orjson.loads(exchange["tool_calls"]) if exchange["tool_calls"] else []
    calls = [f"[calls {call['name']} with {call['arguments']}]" for call in tool_calls]
    return "\n".join(part for part in (exchange["text"], exchange["refusal"], *calls) if part) or NO_TEXT


def question_text(item: BlindItem) -> str:
    return "\n\n".join(f"[{role}]\n{text}" for role, text in item.question)


def to_terminal(item: BlindItem, criterion: str | None) -> RenderableType:
    """criterion: what the scorer judges by; None if its configuration has none."""
    return Group(*_lines(item, criterion))


def _lines(item: BlindItem, criterion: str | None) -> Iterator[RenderableType]:
    for role, text in item.question:
        yield Text(f"\n{plain(role)}", "bold cyan")
        yield Text(plain(text))
    for number, text in enumerate(item.answers, 1):
        yield Text("\nanswer" if len(item.answers) == 1 else f"\nanswer {number}", "bold green")
        yield Text(plain(text))
    if item.options:
        yield Text("\noptions", "bold green")
    numbered = _numbered(item.options)
    for number, name in enumerate(item.options, 1):
        yield Text(plain(f"{number}  {name}" if numbered else name))
    if item.reference:
        yield Text("\nright answer", "bold magenta")
        yield Text(plain(item.reference))
    if criterion:
        yield Text(f"\ncriterion: {plain(criterion)}", "bold")


def parse_verdict(text: str, subject: Subject, *, swapped: bool = False) -> LabelVerdict:
    """The verdict in a line of input. swapped: the pair's second answer was shown first.

    Raises ValueError if the text is not a verdict.
    """
    word, _, rest = text.strip().partition(" ")
    key, comment = word.lower().rstrip(",;:"), rest.strip() or None
    if key in _STOP:
        return LabelVerdict(None, stop=True)
    if key in _SKIP:
        return LabelVerdict(None, None, comment)
    if subject == "pair":
        return _preference(key, comment, swapped, text)
    value = _GOOD[key] if key in _GOOD else _number(key, text)
    return LabelVerdict(value, "good" if value == 1.0 else "bad" if value == 0.0 else None, comment)


PICK_HELP = "the number or the name of the right option · s skip · q stop; a comment may follow"


def parse_pick(text: str, item: BlindItem) -> LabelVerdict:
    """The option in a line of input, as its number or its name, which comes before a comment. The decision is right if
    it took this one. Raises ValueError."""
    line = text.strip()
    word, _, rest = line.partition(" ")
    key = word.lower().rstrip(",;:")
    if key in _STOP:
        return LabelVerdict(None, stop=True)
    if key in _SKIP:
        return LabelVerdict(None, None, rest.strip() or None)
    picked = _option_of(line, item.options)
    if picked is None:
        raise ValueError(f"{line!r} is none of the options; expected {PICK_HELP}")
    name, comment = picked
    return LabelVerdict(1.0 if name == item.decided else 0.0, name, comment.strip(" ,;:") or None)


def _option_of(line: str, options: Sequence[str]) -> tuple[str, str] | None:
    """(the option, what follows). A longer name goes before one with which it begins. "#2" is the second option."""
    place, _, after = line.partition(" ")
    if place[:1] == "#" and place[1:].isdecimal() and 1 <= int(place[1:]) <= len(options):
        return options[int(place[1:]) - 1], after
    for name in sorted(options, key=len, reverse=True):
        begin, after = line[: len(name)], line[len(name) :]
        if begin.casefold() == name.casefold() and not after[:1].isalnum():
            return name, after
    number, _, after = line.partition(" ")
    number = number.rstrip(",;:.")
    known = _numbered(options) and number.isdecimal() and 1 <= int(number) <= len(options)
    return (options[int(number) - 1], after) if known else None


def _numbered(options: Sequence[str]) -> bool:
    """Whether options can be picked by number: not where a name is a number itself."""
    return not any(name.isdecimal() for name in options)


def pick_keys(options: Sequence[str]) -> str:
    """The keys of the options, where each has one digit."""
    few = len(options) <= 9 and _numbered(options)
    return "".join(str(n) for n in range(1, len(options) + 1)) if few else ""


def _preference(key: str, comment: str | None, swapped: bool, text: str) -> LabelVerdict:
    if key not in _BETTER:
        raise ValueError(f"{text.strip()!r} is not a verdict; expected {HELP['pair']}")
    for_second_shown = _BETTER[key]
    value = 1.0 - for_second_shown if swapped else for_second_shown
    return LabelVerdict(value, "tie" if value == 0.5 else "b" if value == 1.0 else "a", comment)


def _number(key: str, text: str) -> float:
    try:
        value = float(key)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{text.strip()!r} is not a verdict; expected {HELP['exchange']}")
    return value


Form = Literal["csv", "jsonl"]
MAX_BYTES = 256 << 20
MAX_ERRORS = 20
_ID_COLUMNS = ("id", "subject_id", "exchange_id")


@dataclass(frozen=True, slots=True)
class SheetRow:
    id: str
    verdict: LabelVerdict
    labeller: str = ""
    """Name of the labeller; "": the person who imports the sheet."""


def blind_sheet(items: Iterable[BlindItem], form: Form) -> str:
    """A row for each item: id, question, the answers, and an empty column for the verdict."""
    rows = []
    for item in items:
        names = ("answer",) if len(item.answers) == 1 else ("answer_1", "answer_2")
        answers = {} if item.options else dict(zip(names, item.answers, strict=True))
        if item.options:
            answers["options"] = "\n".join(item.options)
        rows.append({"id": item.id, "question": question_text(item), **answers, "verdict": "", "comment": ""})
    return sheet(rows, form)


def sheet(rows: Sequence[Mapping[str, Any]], form: Form) -> str:
    """CSV with a header, or one JSON object per line. The columns are those of the first row."""
    if form == "jsonl":
        return "".join(f"{to_json(dict(row), indent=False)}\n" for row in rows)
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(rows[0] if rows else ("id", "verdict", "comment"))
    out.writerows([cell(value) if isinstance(value, str) else value for value in row.values()] for row in rows)
    return text.getvalue()


def form_of(path: Path | None) -> Form:
    """The form that the file's name ends in; CSV by default."""
    return "jsonl" if path is not None and path.suffix.lower() in (".jsonl", ".ndjson") else "csv"


ReadVerdict = Callable[[str, str], LabelVerdict]
"""Reads the column "verdict" of the item with an id. Raises ValueError."""


def read(path: Path, verdict_of: ReadVerdict, known: Callable[[str], bool]) -> list[SheetRow]:
    """The rows with a verdict. known: whether the scorer has judged this id. Raises CannotRun with every error."""
    rows: list[SheetRow] = []
    errors: list[str] = []
    for line, values in _csv_lines(path):
        try:
            row = _row(values, verdict_of, known)
        except ValueError as error:
            errors.append(f"{path.name}, line {line}: {error}")
        else:
            rows += [] if row is None else [row]
    if errors:
        more = [f"… and {len(errors) - MAX_ERRORS} more"] if len(errors) > MAX_ERRORS else []
        raise CannotRun("\n".join([*errors[:MAX_ERRORS], *more]))
    return rows


def _row(values: Mapping[str, Any], verdict_of: ReadVerdict, known: Callable[[str], bool]) -> SheetRow | None:
    """The column "verdict" is about the answers as shown; "value" is a number about the pair as stored."""
    id = _column(values, _ID_COLUMNS)
    written = _column(values, ("verdict",)) or _column(values, ("value",))
    if id is None:
        raise ValueError(f"there is no column {' or '.join(_ID_COLUMNS)}")
    if written is None:
        return None
    if not known(id):
        raise ValueError(f'the scorer has not judged "{cell(id)[:80]}"')
    about_shown = _column(values, ("verdict",)) is not None
    verdict = verdict_of(id, written) if about_shown else parse_verdict(written, "exchange")
    if verdict.stop:
        raise ValueError(f"{written!r} is not a verdict")
    comment = _column(values, ("comment",)) or verdict.comment
    return SheetRow(id, replace(verdict, comment=comment), _column(values, ("labeller",)) or "")


def _column(values: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of these columns that is not empty."""
    for name in names:
        value = values.get(name)
        if value is not None and str(value).strip():
            return str(value).strip()
    return None


def _csv_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """(line, values) of each row. The header of a CSV file is line 1."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CannotRun(f"{path} is larger than {MAX_BYTES >> 20} MB")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CannotRun(f"{path} cannot be read: {error}") from error
    return _objects(path, text) if form_of(path) == "jsonl" else _table(path, text)


def _objects(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    found = []
    for line, each in enumerate(text.split("\n"), 1):
        if not each.strip():
            continue
        try:
            value = orjson.loads(each)
        except orjson.JSONDecodeError as error:
            raise CannotRun(f"{path.name}, line {line}: invalid JSON: {error}") from None
        if not isinstance(value, dict):
            raise CannotRun(f"{path.name}, line {line}: not a JSON object")
        found.append((line, value))
    return found


def _table(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    """CSV with commas, or with semicolons as spreadsheets write it in many locales."""
    header = text.partition("\n")[0]
    delimiter = ";" if header.count(";") > header.count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return [(reader.line_num, {str(k).strip().lower(): v for k, v in row.items()}) for row in reader]
    except csv.Error as error:
        raise CannotRun(f"{path.name}, line {reader.line_num}: {error}") from None
