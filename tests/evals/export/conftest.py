"""Exchanges as a store holds them, for rows and forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from gateway.evals.store.reading import Found

ASKED = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "=1+1?"}]


@pytest.fixture
def found() -> Callable[..., Found]:
    """An exchange of chat, with a score. Others by name; body: the request's."""

    def make(body: Any = None, **changes: Any) -> Found:
        given = {"messages": ASKED} if body is None else body
        score = {"scorer": "said", "version": "1", "value": 0.5, "label": "ok", "status": "scored", "pi": 0.25}
        plain: Found = {
            "id": "e1", "received": 1_700_000_000.25, "alias": "chat", "upstream": "local", "model": "small",
            "caller": "web", "api": "chat", "role": "served", "pair": None, "experiment": None, "arm": None,
            "request": orjson.dumps(given), "text": "-2", "reasoning": "", "tool_calls": "[]", "correction": None,
            "finish_reason": "stop", "outcome": "ok", "status": 200, "error": None, "input_tokens": 3,
            "output_tokens": 1, "cost_usd": 0.5, "first_token_s": None, "total_s": 1.5, "stratum": "default",
            "pi": 0.25, "truncated": False, "bytes": 100, "scores": [score],
        }  # fmt: skip
        return {**plain, **changes}

    return make
