"""The text that names a target's variant: what it changes in every request. Pure.

It is part of the target's name in metrics, records and reports, and of a plan's hash: variants that change different
things have different texts. Long values, instructions and the values of headers are shown as digests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import orjson

_PLAIN = re.compile(r"[\w.+-]{1,24}", re.A)
_LONGEST = 100  # characters of a whole text


AS_DECISION = "decision"
"""The first part of a variant whose requests become decisions; other parts have an equals sign."""


def variant_text(
    parameters: Mapping[str, Any],
    system: str | None,
    headers: Mapping[str, str],
    *,
    as_decision: bool = False,
    reading: str | None = None,
) -> str:
    """ "temperature=0,system=#1a2b3c4d"; "" if nothing is changed. reading: of emulated decisions."""
    parts = [AS_DECISION] if as_decision else []
    parts += [f"reading={reading}"] if reading else []
    parts += [f"{name}={_short(value)}" for name, value in sorted(parameters.items())]
    parts += [f"system={_digest(system)}"] if system is not None else []
    parts += [f"headers={_digest(sorted((n.lower(), v) for n, v in headers.items()))}"] if headers else []
    text = ",".join(parts)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 10]}~{_digest(text)}"


def _short(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and not _reads_as_json(value):
        return value
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    return text if _PLAIN.fullmatch(text) else _digest(value)


def _reads_as_json(text: str) -> bool:
    """Whether the text, without its quotes, would look like another value: "0" like 0."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _digest(value: Any) -> str:
    return f"#{sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:8]}"
