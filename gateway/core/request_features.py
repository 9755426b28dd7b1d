"""Numbers about a request that are known before it is sent, from which a learned route decides. Pure.

The same function serves the request path and the learning from recorded requests. It takes a fixed number of calls at
any size: of a large body, only the end of its turns is read, and of the last message at most TEXT_BYTES.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import orjson

from gateway.core.output_tokens import OUTPUT_LIMITS

TEXT_BYTES = 192
"""Bytes of the last message that are read, from its beginning."""
LARGE_BYTES = 8_192
"""Size of a body above which the turns are not counted, and the last message is looked for in the last TAIL_BYTES
alone."""
TAIL_BYTES = 2_048
HEAD_BYTES = 96
MANY = 99
"""Number of messages that stands for those of a large body."""
TASKS = ("translation", "summary", "classification", "extraction", "arithmetic", "reasoning", "writing")
"""Kinds of requests that the first such word of the last message tells."""
SCRIPTS = ("latin", "greek", "cyrillic", "semitic", "indic_thai", "cjk", "hangul")
FEATURES = (
    *("request_bytes", "messages", "system", "tools", "json", "stream", "max_tokens", "last_bytes", "tool_result"),
    *("symbols", "digits", "lines", "questions", "code"),
    *TASKS,
    "latin",
)
FEATURE_SET = sha256("\0".join(("1", *FEATURES, *SCRIPTS)).encode()).hexdigest()[:12]
"""A route that was learned from another set cannot be served. The number counts changes of meaning."""

_CONTENT = re.compile(rb'"content"\s*:\s*(?:"|\[.*?"text"\s*:\s*")', re.S)
_STRING = re.compile(rb'(?:[^"\\]|\\.)*', re.S)
_SYSTEM = re.compile(rb'"role"\s*:\s*"(?:system|developer)"')
_TOOL = re.compile(rb'"role"\s*:\s*"(?:tool|function)"')
_SYMBOLS = b"{}[]()<>=;_`|\\$#/*&^~+"
_DIGITS = b"0123456789"
_CODE_WORDS = (
    "code coding functio functions python javascr typescr java golang rust kotlin php sql regex regexp html css bash "
    "shell script scripts compile compila debug debuggi traceba refacto def const void algorit api program"
)
_TASK_WORDS = (
    "transla übersetz tradui traduir traduis traduit traduci traduz",
    "summari summary zusamme résumé résume résumez",
    "classif sentime categor klassif label labels",
    "extract parse extrahi extrae",
    "calcula compute solve equatio",
    "why explain prove reason reasons reasoni analyze analyse analysi compare compari warum pourquo",
    "write writing rewrite draft proofre compose email emails essay story poem schreib écrire écris escribe",
)
"""Beginnings of words, by task in the order of TASKS."""
_STEM = 7  # bytes of a word that are looked up
_CODE_STEM = 0


def _stems() -> dict[bytes, int]:
    """Beginning of a word → number of its task, or _CODE_STEM."""
    tasks = {word: task for task, words in enumerate(_TASK_WORDS, 1) for word in words.split()}
    named = {**tasks, **dict.fromkeys(_CODE_WORDS.split(), _CODE_STEM)}
    return {word.encode()[:_STEM]: number for word, number in named.items()}


_STEMS = _stems()
_LETTERS = bytes(b if b >= 0x80 or chr(b).isalpha() else ord(" ") for b in range(256))
"""The table for bytes.translate that leaves words."""
_ARITHMETIC = TASKS.index("arithmetic") + 1
_OTHER_SCRIPT = re.compile(rb"[\xce-\xdf\xe0\xe1\xe3-\xed]")  # first bytes of UTF-8: neither Latin, symbols nor emoji
_FEWEST_CHARACTERS = 3
"""Number of characters of another script from which on a text counts as written in it: a single π does not."""


def _script_of(byte: int) -> int:
    if byte < 0xD0:
        return SCRIPTS.index("greek")
    if byte < 0xD6:
        return SCRIPTS.index("cyrillic")
    if byte < 0xE0:
        return SCRIPTS.index("semitic")
    if byte < 0xE3:
        return SCRIPTS.index("indic_thai")
    return SCRIPTS.index("cjk" if byte < 0xEA else "hangul")


_SCRIPT = bytes(_script_of(byte) for byte in range(256))


def request_features(
    size: int, stream: bool, fields: Mapping[str, Any], turns: bytes | memoryview
) -> tuple[list[float], int]:
    """The values of FEATURES, and the index in SCRIPTS of the last message.

    size: bytes of the body as the client sent it. fields: its top-level members; those that are large may be `...`.
    turns: the JSON of `messages`, or of `prompt`; b"" where there is neither.
    """
    large = size > LARGE_BYTES
    view = memoryview(turns)
    tail = bytes(view[-TAIL_BYTES:]) if large else bytes(view)
    text, last_bytes, role = last_message(tail)
    plain = text.lower()
    code, task = b"```" in text or b"()" in text or b"=>" in text or b";\n" in text, 0
    for word in plain.translate(_LETTERS).split():
        if word[:_STEM] in _STEMS:
            number = _STEMS[word[:_STEM]]
            if number == _CODE_STEM:
                code = True
            elif not task:
                task = number
    digits = len(text) - len(text.translate(None, _DIGITS))
    if not task and (b"how many" in plain or b"how much" in plain or (digits > 1 and _computes(plain))):
        task = _ARITHMETIC
    letters = _OTHER_SCRIPT.findall(text)
    script = _SCRIPT[letters[0][0]] if letters[_FEWEST_CHARACTERS - 1 :] else 0
    limit = -1.0
    for name in OUTPUT_LIMITS:
        if name in fields and type(fields[name]) is int:
            limit = fields[name]
    form = fields.get("response_format")
    tools = "tools" in fields and fields["tools"]
    values = [
        size,
        MANY if large else tail.count(b'"role"'),
        _SYSTEM.search(bytes(view[:HEAD_BYTES])) is not None,
        bool(tools or (fields.get("functions"))),
        form is not None and form != {"type": "text"},
        stream,
        limit,
        last_bytes,
        role is not None,
        len(text) - len(text.translate(None, _SYMBOLS)),
        digits,
        text.count(b"\n"),
        text.count(b"?"),
        code,
        task == 1, task == 2, task == 3, task == 4, task == 5, task == 6, task == 7,
        script == 0,
    ]  # fmt: skip
    return values, script


def _computes(text: bytes) -> bool:
    """Whether the text contains a sign of arithmetic."""
    return b" + " in text or b" - " in text or b" * " in text or b" / " in text or b" = " in text


def last_message(tail: bytes) -> tuple[bytes, int, re.Match[bytes] | None]:
    """(beginning of the text of the last message, bytes from there to the end, match of its role if it is a tool's).

    tail: the end of a JSON array of messages, or a JSON string. Within a JSON text, quotes are escaped, so `"role"`
    is a member at any position. The text is b"" where the message begins before the tail, or has none; its length
    is then that of the tail.
    """
    if tail[:1] == b'"':
        return _text(tail, 1), len(tail) - 2, None
    at = tail.rfind(b'"role"')
    if at < 0:
        return b"", len(tail), None
    role = _TOOL.match(tail, at)
    found = _CONTENT.search(tail, at)
    if found is None and tail.find(b'"content"', at) < 0:
        found = _before(tail, at)
    if found is None:
        return b"", 0, role
    start = found.end()
    return _text(tail, start), len(tail) - start, role


def _before(tail: bytes, at: int) -> re.Match[bytes] | None:
    """The text of a message that comes before its role; None if the text before is that of another message."""
    found = _CONTENT.match(tail, max(0, tail.rfind(b'"content"', 0, at)))
    text = None if found is None else _STRING.match(tail, found.end())
    return None if text is None or b"}" in tail[text.end() : at] else found


def _text(tail: bytes, start: int) -> bytes:
    """The first TEXT_BYTES of the JSON string whose first character is at `start`, as UTF-8."""
    piece = tail[start : start + TEXT_BYTES]
    if b"\\" not in piece:
        return piece.partition(b'"')[0]
    found = _STRING.match(tail[start : start + 6 * TEXT_BYTES])
    written = "" if found is None else found[0].decode("utf-8", "ignore")
    for end in (len(written), written.rfind("\\")):  # the last escape may be cut
        try:
            return bytes(orjson.loads(f'"{written[:end]}"').encode("utf-8", "replace")[:TEXT_BYTES])
        except ValueError:
            continue
    return b""


_SAID: Mapping[str, tuple[str, str]] = {
    "system": ("no system message", "with a system message"),
    "tools": ("no tools", "with tools"),
    "json": ("no JSON asked for", "JSON asked for"),
    "stream": ("not streamed", "streamed"),
    "tool_result": ("not after a tool's result", "after a tool's result"),
    "code": ("no code", "code"),
    "latin": ("another script than Latin", "Latin script"),
    **{task: (f"no {task}", task) for task in TASKS},
}
"""The words for at most 0.5, and for more."""
_COUNTED: Mapping[str, str] = {
    "messages": "messages",
    "symbols": "symbols of code",
    "digits": "digits",
    "lines": "line breaks",
    "questions": "question marks",
    "max_tokens": "max_tokens",
}
_SIZES: Mapping[str, str] = {"request_bytes": "request", "last_bytes": "last message"}


def condition_text(feature: str, threshold: float, above: bool) -> str:
    """ "no tools", "request up to 2.1 KB", "more than 3 messages"."""
    if feature in _SAID:
        return _SAID[feature][above]
    if feature in _SIZES:
        return f"{_SIZES[feature]} {'over' if above else 'up to'} {_size(threshold)}"
    if threshold < 1.0:
        return f"{'with' if above else 'no'} {_COUNTED[feature]}"
    return f"{'more than' if above else 'at most'} {threshold:.0f} {_COUNTED[feature]}"


def _size(n: float) -> str:
    return f"{n:.0f} bytes" if n < 1000 else f"{n / 1024:.1f} KB"
