"""Rows of other tools, and of this project's exports, as rows of a dataset: `examples` or `messages`, and `reference`.

Pure. A form is recognized by its columns; `--map ROLE=COLUMN` names the columns instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.core.json_values import value_at

Row = Mapping[str, Any]
ROLES: Mapping[str, str] = {
    "question": "examples",
    "messages": "messages",
    "reference": "reference",
    "cluster": "cluster",
    "system": "system",
}
"""Role of --map → the name that the column has in a dataset."""
QUESTIONS = ("request", "messages", "examples", "item", "prompt", "instruction", "question", "input")
"""Columns that a question may be in."""
_OWN = ("request", "messages", "examples", "reference", "ground_truth", "cluster")
_EXPORTED = frozenset({"alias", "pi", "messages", "response", "stratum"})  # columns that only an export has together
_GUARDED = tuple("=+-@\t\n\uff1d\uff0b\uff0d\uff20")
_ANSWERS = ("reference", "ground_truth", "answer", "ideal", "output")
_SAMPLING = ("temperature", "top_p", "stop", "seed", "n", "presence_penalty", "frequency_penalty", "logit_bias")
_OUTPUT = ("max_tokens", "max_completion_tokens", "logprobs", "top_logprobs", "response_format", "verbosity")
_TOOLS = ("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "reasoning_effort")
REQUEST_PARAMETERS = frozenset({*_SAMPLING, *_OUTPUT, *_TOOLS})
"""The members of a row with `messages` that belong to the request; other members are notes."""


_OTHERS = ("api", "id", "exchange_id", "role", "correction", "parameters", "system", "chosen")
READ_COLUMNS = frozenset({*QUESTIONS, *_OWN, *_EXPORTED, *_ANSWERS, *REQUEST_PARAMETERS, *_OTHERS})
"""Every column that some form reads a value of."""


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """Role → the columns that it is read from, in order; texts of several are joined by blank lines."""

    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.columns)

    @property
    def tops(self) -> frozenset[str]:
        """The columns of a table that it reads, whole or a value within."""
        columns = [column for each in self.columns.values() for column in each]
        return frozenset({*columns, *(column.partition(".")[0] for column in columns)})

    def missing(self, names: Iterable[str]) -> str | None:
        """Returns the reason why a table with these columns cannot be read; None if it can."""
        known = list(names)
        for role, columns in self.columns.items():
            for column in columns:
                if column.partition(".")[0] not in known and column not in known:
                    return f"no column {column} for {role}; found {', '.join(known[:12])}"
        return None


def column_map(words: Iterable[str]) -> ColumnMap:
    """ "question=dialogue", "question=instruction+input", "reference=answers.text.0"; several may be joined by commas.

    Raises ValueError.
    """
    found: dict[str, tuple[str, ...]] = {}
    for word in (part.strip() for given in words for part in given.split(",")):
        role, equals, columns = word.partition("=")
        if not equals or not columns or role not in ROLES:
            raise ValueError(f"{word!r}: expected ROLE=COLUMN with a role of {', '.join(ROLES)}")
        if role in found:
            raise ValueError(f"{role} is given twice")
        found[role] = tuple(columns.split("+"))
    if found and not {"question", "messages"} & found.keys():
        raise ValueError("give question=COLUMN or messages=COLUMN as well")
    return ColumnMap(found)


def native(row: Row, columns: ColumnMap) -> Row | None:
    """The row in a dataset's own form. None if it is not a question of its own, such as a shadow's answer in an export.

    A row of no known form is returned as it is. Raises ValueError.
    """
    if columns:
        return _mapped(row, columns)
    if row.keys() >= _EXPORTED:
        return _exported(row)
    if any(row.get(name) is not None for name in ("request", "messages", "examples")):
        return row
    return next((form(row) for name, form in _FORMS if row.get(name) is not None), row)


def _mapped(row: Row, columns: ColumnMap) -> Row:
    taken = {column.partition(".")[0] for each in columns.columns.values() for column in each}
    rest = {name: value for name, value in row.items() if name not in taken and name not in _OWN}
    found = {ROLES[role]: _joined(row, names, role) for role, names in columns.columns.items()}
    if (system := found.pop("system", None)) is not None:
        turns = found.pop("messages", None) or [{"role": "user", "content": found.pop("examples", None)}]
        found["messages"] = [{"role": "system", "content": system}, *turns]
    return {**rest, **found}


def _joined(row: Row, names: tuple[str, ...], role: str) -> Any:
    values = [value_at(row, name) for name in names]
    if role == "messages":
        return _json(values[0])
    if len(values) == 1 and role == "question":
        return _text(values[0])
    texts = [str(_text(value)) for value in values if value is not None]
    return "\n\n".join(text for text in texts if text) or None


def _text(value: Any) -> Any:
    """Numbers and truth values as JSON has them; anything else as it is."""
    return orjson.dumps(value).decode() if isinstance(value, bool | int | float) else value


def _json(value: Any) -> Any:
    """Parses lists and objects that a table holds as text."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def _exported(row: Row) -> Row | None:
    """A row of `gateway export`: the served request, with a person's correction or the stored reference."""
    if row.get("role") not in (None, "served"):
        return None
    parameters, tools = _json(row.get("parameters")), _json(row.get("tools"))
    reference = row.get("correction") or row.get("reference")
    if isinstance(row["messages"], str) and isinstance(reference, str) and reference[1:2] in _GUARDED:
        reference = reference.removeprefix("'")  # the CSV form puts it before what a spreadsheet takes for a formula
    return {
        **(parameters if isinstance(parameters, Mapping) else {}),
        **({"tools": tools} if tools else {}),
        "messages": _json(row["messages"]),
        "reference": reference,
        "cluster": row.get("cluster"),
        "exchange_id": row.get("id"),
    }


def _of_item(row: Row) -> Row:
    """{"item": {"input", "ideal", …}, "sample": …}: a line of a data source for OpenAI's evals."""
    item = _json(row["item"])
    if not isinstance(item, Mapping) or not (question := next((n for n in QUESTIONS if item.get(n) is not None), None)):
        raise ValueError("item has no input; expected {'item': {'input': …, 'ideal': …}}")
    form = dict(_FORMS).get(question)
    return form(item) if form is not None else item


def _evaluated(row: Row) -> Row:
    """{"input", "ideal"}: a sample of OpenAI's evals; of several right answers, the first."""
    ideal = row.get("ideal")
    ideal = ideal[0] if isinstance(ideal, list) and ideal else ideal
    reference = _text(ideal) if ideal is not None else _reference(row)
    return {**_question(row["input"]), **_tools(row), "reference": reference}


def _preferred(row: Row) -> Row:
    """{"prompt", "chosen", "rejected"}: a preference, whose chosen answer is the reference; or a bare prompt."""
    chosen = _turns(row.get("chosen"))
    if isinstance(chosen, list) and chosen and isinstance(chosen[-1], Mapping):
        chosen = chosen[-1].get("content")
    reference = chosen if isinstance(chosen, str) else _reference(row)
    return {**_question(row["prompt"]), **_tools(row), "reference": reference}


def _instructed(row: Row) -> Row:
    """{"instruction", "input", "output"}: Alpaca's form."""
    parts = [row["instruction"], row.get("input")]
    return {"examples": "\n\n".join(str(p) for p in parts if p), "reference": _reference(row)}


def _asked(row: Row) -> Row:
    """{"question", "answer"}."""
    return {**_question(row["question"]), "reference": _reference(row)}


def _question(value: Any) -> dict[str, Any]:
    value = _turns(value)
    return {"messages": value} if isinstance(value, list) else {"examples": value}


def _turns(value: Any) -> Any:
    """Messages that a table has as text; any other text stays one."""
    return _json(value) if isinstance(value, str) and value.lstrip().startswith('[{"') else value


def _tools(row: Row) -> dict[str, Any]:
    tools = _json(row.get("tools"))
    return {"tools": tools} if tools else {}


def _reference(row: Row) -> Any:
    return next((_text(row[name]) for name in _ANSWERS if row.get(name) is not None), None)


_FORMS: tuple[tuple[str, Callable[[Row], Row]], ...] = (
    ("item", _of_item),
    ("prompt", _preferred),
    ("instruction", _instructed),
    ("question", _asked),
    ("input", _evaluated),
)
