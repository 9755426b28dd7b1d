"""`gateway export`: rows, file formats, and writing the selected exchanges one by one.

A file appears only when it is complete.
"""

from __future__ import annotations

import csv
import io
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, Protocol, get_args

import orjson

from gateway.core.conversation import turns
from gateway.core.did_you_mean import did_you_mean
from gateway.core.errors import CannotRun
from gateway.core.extras import install_command
from gateway.core.json_values import parse_object
from gateway.core.sanitize import cell, to_json
from gateway.features.calls.rows.export import DEFAULT, ExportSource, Preference, PreferenceRule
from gateway.store.query import ExchangeFilter, Found, right_answer


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PLAIN = _names(
    "id received alias upstream model variant caller api role pair experiment arm cluster messages tools parameters "
    "metadata response reasoning tool_calls correction reference finish_reason outcome status error input_tokens "
    "output_tokens cost_usd first_token_s total_s stratum pi feedback predictions run run_source run_id tags "
    "model_returned fingerprint"
)
_OF_SCORE = ("scorer", "version", "value", "label", "status", "pi")
_OF_PREDICTION = ("scorer", "target", "version", "predicted", "pi", "judged")
_OF_FEEDBACK = ("name", "value", "label", "comment", "correction")
# Members of a request that are columns of their own, or that say nothing of how the model was asked.
_NO_PARAMETERS = _names(
    "messages input prompt system instructions tools metadata model stream stream_options store user safety_identifier "
    "prompt_cache_key service_tier background"
)
_INLINE = b";base64,sha256="  # the placeholder of an image or a sound that is not stored


class NotExportable(Exception):
    """The exchange does not fit the form. The message is the reason, the same for all such exchanges."""


def columns(scorers: Sequence[str]) -> dict[str, str]:
    """Names the column of each scorer: score_NAME with letters, digits and underscores, each name once."""
    names: dict[str, str] = {}
    for scorer in scorers:
        plain = name = "score_" + re.sub(r"\W", "_", scorer, flags=re.ASCII)
        n = 1
        while name in names.values():
            n += 1
            name = f"{plain}_{n}"
        names[scorer] = name
    return names


def row(found: Found, named: Mapping[str, str]) -> dict[str, Any]:
    """A row with the columns PLAIN, all `scores`, and a column for each scorer's newest value. named: the result of
    columns().
    """
    body = parse_object(found["request"]) or {}
    values = {s["scorer"]: s["value"] for s in found["scores"]}
    return {
        **{name: found[name] for name in PLAIN if name in found},
        "received": datetime.fromtimestamp(found["received"], UTC),
        "messages": [{"role": role, "content": text} for role, text in turns(bytes(found["request"]))],
        "tools": _as_text(body.get("tools")),
        "parameters": _as_text({k: v for k, v in body.items() if k not in _NO_PARAMETERS and v is not None}),
        "metadata": _as_text(body.get("metadata")),
        "feedback": [{name: each[name] for name in _OF_FEEDBACK} for each in found["feedback"]],
        "predictions": [{name: each[name] for name in _OF_PREDICTION} for each in found["predictions"]],
        "response": found["text"],
        "reference": right_answer(found),
        "scores": [{name: s[name] for name in _OF_SCORE} for s in found["scores"]],
        **{column: values.get(scorer) for scorer, column in named.items()},
    }


def _as_text(value: Any) -> str | None:
    """JSON; None for what is empty."""
    return orjson.dumps(value).decode() if value else None


def preferred(found: Preference) -> dict[str, Any]:
    """Makes {"prompt": [messages], "chosen": [answer], "rejected": [answer], …}: a row of a preference data set, in the
    conversational form that trl's DPOTrainer takes. Raises NotExportable."""
    asked, tools = question(found.served)
    if asked[-1].get("role") not in ("user", "tool", "assistant"):
        raise NotExportable("a conversation that does not end with a user's message")
    if not found.chosen or not found.rejected:
        raise NotExportable("empty answers")
    if found.chosen == found.rejected:
        raise NotExportable("two equal answers")
    if found.served["tool_calls"] != "[]":
        raise NotExportable("answers that call tools")
    _check_complete(found.served)
    return {
        "prompt": asked,
        "chosen": [{"role": "assistant", "content": found.chosen}],
        "rejected": [{"role": "assistant", "content": found.rejected}],
        **({"tools": tools} if tools else {}),
        "score_chosen": found.chosen_value,
        "score_rejected": found.rejected_value,
        "by": found.by,
        "id": found.served["id"],
    }


def conversation(found: Found) -> dict[str, Any]:
    """Makes {"messages": […, the answer], "tools": …} for OpenAI's chat fine-tuning. Raises NotExportable.

    A person's correction replaces the answer.
    """
    asked, tools = question(found)
    answer: dict[str, Any] = {"role": "assistant"}
    calls = _calls(found["tool_calls"])
    if found["correction"] is not None:
        answer["content"] = found["correction"]
    else:
        _check_complete(found)
        if not found["text"] and not calls:
            raise NotExportable("empty answers")
        answer["content"] = found["text"] or None
        if calls:
            answer["tool_calls"] = calls
    return {"messages": [*asked, answer], **({"tools": tools} if tools else {})}


def evaluated(found: Found) -> dict[str, Any]:
    """Makes {"item": …, "sample": …}: a line of a data source for OpenAI's evals, with the answer as the sample.

    `ideal` is a person's correction, else the reference of the request. Raises NotExportable.
    """
    asked, tools = question(found)
    _check_complete(found)
    ideal = right_answer(found) if found["correction"] is None else found["correction"]
    scores = {s["scorer"]: s["value"] for s in found["scores"]}
    item = {"id": found["id"], "input": asked, "ideal": ideal, "alias": found["alias"], "pi": found["pi"]}
    item |= {"scores": scores, **({"tools": tools} if tools else {})}
    sample = {"output_text": found["text"], "output_tools": _calls(found["tool_calls"])}
    sample |= {"finish_reason": found["finish_reason"], "model": found["model"]}
    return {"item": item, "sample": sample}


def question(found: Found) -> tuple[list[Any], list[Any] | None]:
    """The question as messages of the chat API, and the tools. Raises NotExportable."""
    request = bytes(found["request"])
    if found["truncated"]:
        raise NotExportable("cut at the byte cap")
    if _INLINE in request:
        raise NotExportable("images and sounds that are not stored")
    body = parse_object(request) or {}
    if found["api"] == "chat":
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise NotExportable("text that is not stored")
        return messages, body.get("tools") or None
    if not any(body.get(name) for name in ("messages", "input", "prompt")):
        raise NotExportable("text that is not stored")
    if body.get("tools") or not _only_text(body):
        raise NotExportable("tools and parts of an API other than chat")
    return [{"role": role, "content": text} for role, text in turns(request)], None


def _check_complete(found: Found) -> None:
    if found["outcome"] != "ok" or found["status"] >= 400:
        raise NotExportable("no complete answer")


def _only_text(body: Mapping[str, Any]) -> bool:
    """Tells whether each turn is plain text."""
    written = body.get("messages", body.get("input", body.get("prompt")))
    items = written if isinstance(written, list) else [written]
    return all(isinstance(item, str) or (isinstance(item, dict) and _is_text(item.get("content"))) for item in items)


def _is_text(content: Any) -> bool:
    if isinstance(content, list):
        return all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content)
    return isinstance(content, str)


def _calls(kept: str) -> list[dict[str, Any]]:
    found = orjson.loads(kept)
    return [
        {"id": c["id"], "type": "function", "function": {"name": c["name"], "arguments": c["arguments"]}} for c in found
    ]


Form = Literal["jsonl", "openai-chat", "openai-evals", "dpo", "csv", "parquet"]
FORMS: tuple[Form, ...] = get_args(Form)
_GROUP_ROWS = 1_000  # of a Parquet file
_GROUP_BYTES = 8_000_000


class ExportWriter(Protocol):
    """Writes exchanges, and the form dpo preferences. add raises NotExportable, and writes nothing, for what does not
    fit the form."""

    def add(self, found: Any) -> None: ...

    def close(self) -> None: ...


def writer(form: Form, file: IO[bytes], scorers: Sequence[str]) -> ExportWriter:
    """A writer for a form. scorers: names of the scorers in the store. Raises CannotRun if a library is missing."""
    named = columns(scorers)
    if form == "parquet":
        return ParquetWriter(file, named)
    if form == "csv":
        return CsvWriter(file, named)
    as_object: Mapping[Form, Callable[[Any], dict[str, Any]]] = {
        "jsonl": lambda found: _text_row(found, named),
        "openai-chat": conversation,
        "openai-evals": evaluated,
        "dpo": preferred,
    }
    return JsonLinesWriter(file, as_object[form])


def _text_row(found: Found, named: Mapping[str, str]) -> dict[str, Any]:
    """A row whose time is a text."""
    values = row(found, named)
    return values | {"received": values["received"].isoformat()}


class JsonLinesWriter:
    """JSON, one object per line."""

    def __init__(self, file: IO[bytes], as_object: Callable[[Any], dict[str, Any]]) -> None:
        self._file = file
        self._object = as_object

    def add(self, found: Any) -> None:
        self._file.write(to_json(self._object(found), indent=False).encode() + b"\n")

    def close(self) -> None:
        self._file.flush()


class CsvWriter:
    """CSV with a header (RFC 4180), without formulas. The messages are JSON."""

    def __init__(self, file: IO[bytes], named: Mapping[str, str]) -> None:
        self._named = named
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._csv = csv.writer(self._text)
        self._columns = [*PLAIN, *named.values()]
        self._csv.writerow(self._columns)

    def add(self, found: Found) -> None:
        values = _text_row(found, self._named)
        values["messages"] = to_json(values["messages"], indent=False)
        for name in ("feedback", "predictions"):
            values[name] = to_json(values[name], indent=False) if values[name] else ""
        self._csv.writerow([cell(v) if isinstance(v, str) else v for v in (values[name] for name in self._columns)])

    def close(self) -> None:
        self._text.flush()
        self._text.detach()


class ParquetWriter:
    """Parquet, written by pyarrow. At most one row group is in memory."""

    def __init__(self, file: IO[bytes], named: Mapping[str, str]) -> None:
        self._arrow = arrow = _pyarrow()
        self._named = named
        self._schema = _schema(arrow, named)
        self._writer = arrow.parquet.ParquetWriter(file, self._schema)
        self._held: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, found: Found) -> None:
        self._held.append(row(found, self._named))
        self._bytes += found["bytes"]
        if len(self._held) >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._write()

    def close(self) -> None:
        if self._held:
            self._write()
        self._writer.close()

    def _write(self) -> None:
        self._writer.write_table(self._arrow.Table.from_pylist(self._held, schema=self._schema))
        self._held, self._bytes = [], 0


class FeedbackWriter:
    """Writes feedback as rows of its own where it arrives after its exchange was written. Held in memory until
    close()."""

    def __init__(self, form: Form, file: IO[bytes]) -> None:
        """Writes nothing yet. form: jsonl or parquet. Raises CannotRun if a library is missing."""
        self._file = file
        self._arrow = _pyarrow() if form == "parquet" else None
        self._held: list[dict[str, Any]] = []

    def add(self, given: Mapping[str, Any]) -> None:
        own = {name: given[name] for name in ("feedback_id", "name", "value", "label", "comment", "correction")}
        at = datetime.fromtimestamp(given["at"], UTC)
        self._held.append({**own, "exchange_id": given["resolved"], "at": at})

    def close(self) -> None:
        arrow = self._arrow
        if arrow is None:
            for row in self._held:
                self._file.write(to_json({**row, "at": row["at"].isoformat()}, indent=False).encode() + b"\n")
            return
        text = arrow.string()
        kinds = {"value": arrow.float64(), "at": arrow.timestamp("us", tz="UTC")}
        named = ("feedback_id", "exchange_id", "at", "name", "value", "label", "comment", "correction")
        schema = arrow.schema([(name, kinds.get(name, text)) for name in named])
        arrow.parquet.write_table(arrow.Table.from_pylist(self._held, schema=schema), self._file)


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise CannotRun(f"the parquet form needs pyarrow: {install_command('parquet')}") from error
    return pyarrow


def _schema(arrow: Any, named: Mapping[str, str]) -> Any:
    text, number, integer = arrow.string(), arrow.float64(), arrow.int64()
    turn = arrow.struct([("role", text), ("content", text)])
    score = arrow.struct(
        [("scorer", text), ("version", text), ("value", number), ("label", text), ("status", text), ("pi", number)]
    )
    rating = arrow.struct([("name", text), ("value", number), ("label", text), ("comment", text), ("correction", text)])
    given = [("predicted", number), ("pi", number), ("judged", arrow.bool_())]
    prediction = arrow.struct([*((name, text) for name in ("scorer", "target", "version")), *given])
    kinds = {
        "received": arrow.timestamp("us", tz="UTC"),
        "messages": arrow.list_(turn),
        "feedback": arrow.list_(rating),
        "predictions": arrow.list_(prediction),
        **dict.fromkeys(("status", "input_tokens", "output_tokens"), integer),
        **dict.fromkeys(("cost_usd", "first_token_s", "total_s", "pi"), number),
    }
    plain = [(name, kinds.get(name, text)) for name in PLAIN]
    return arrow.schema([*plain, ("scores", arrow.list_(score)), *((name, number) for name in named.values())])


Show = Callable[[int, int], None]
"""Shows the progress: the number done, and the total."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    written: int
    left_out: Mapping[str, int]
    """The number of exchanges, or preferences, that do not fit the form, by reason."""


def form_of(path: Path | None) -> Form:
    """The form that the file's name ends in; jsonl by default."""
    named: Mapping[str, Form] = {".parquet": "parquet", ".csv": "csv"}
    return "jsonl" if path is None else named.get(path.suffix.lower(), "jsonl")


def export(
    url: str, filter: ExchangeFilter, form: Form, file: IO[bytes], show: Show, rule: PreferenceRule | None = None
) -> ExportResult:
    """Writes the exchanges, oldest first; in the form dpo, the preferences between their arms by the rule.

    filter.limit: the largest number of exchanges; 0: all. Raises StoreUnavailable, QueryError, CannotRun.
    """
    done, written, left_out = 0, 0, Counter[str]()
    with closing(ExportSource(url, filter, time.time())) as source:
        if form == "dpo":
            _check(rule or PreferenceRule(), source)
        total = min(source.count, filter.limit or source.count)
        out = writer(form, file, source.scorers)
        for batch in source.batches():
            batch = batch[: total - done]
            found = batch if form != "dpo" else source.preferences(batch, rule or PreferenceRule())
            for each in found:
                try:
                    out.add(each)
                    written += 1
                except NotExportable as reason:
                    left_out[str(reason)] += 1
                if form != "dpo":
                    done += 1
                    show(done, total)
            if form == "dpo":
                done += len(batch)
                show(done, total)
            if done >= total:
                break
        out.close()
    return ExportResult(written, left_out)


def _check(rule: PreferenceRule, source: ExportSource) -> None:
    """Raises CannotRun for a name that nothing in the store has decided by."""
    known = [*DEFAULT, *source.comparing, *source.scorers]
    for name in rule.by:
        if name not in known:
            hint = did_you_mean(name, known) or f"; expected one of {', '.join(known)}"
            raise CannotRun(f'--by: no scorer "{name}" has scored these calls{hint}')
