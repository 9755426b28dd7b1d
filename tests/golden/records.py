"""The records of one gateway process, as it appends them to the stream. Equal for equal seeds."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import orjson

from gateway.core.exchange import Count, Exchange, Feedback, Tally, Target, new_id
from gateway.core.plan import REPEAT, Plan

CALLERS = ("web", "app", "batch", "desk")
_QUESTIONS = (
    "What should I cook tonight?",
    "Write a Python function that merges two sorted lists.",
    "Translate to German: good morning",
    "Summarize this article in two lines.",
)


class Records:
    """Makes records, and counts them for the tally."""

    def __init__(self, seed: str, incarnation: str = "g1") -> None:
        self.random = random.Random(seed)
        self._seed, self._incarnation = seed, incarnation
        self._seq = 0
        self._sent: Counter[tuple[str, str, str, str]] = Counter()
        self._seen: Counter[tuple[str, str, str, str]] = Counter()

    def call(self, at: float, text: str, **fields: Any) -> Exchange:
        """One call. at: Unix seconds. text: of its answer; "failed": the upstream answered with an error."""
        self._seq += 1
        entropy = sha256(f"{self._seed} {self._seq}".encode()).digest()[:10]
        failed, stream = text == "failed", fields.get("stream", self._seq % 3 == 0)
        usage = {"prompt_tokens": 20 + self._seq % 7, "completion_tokens": 5 + self._seq % 11}
        question = _QUESTIONS[self._seq % len(_QUESTIONS)]
        plain: dict[str, Any] = {
            "id": new_id(int(at * 1000) * 1_000_000, entropy), "received": at,
            "caller": CALLERS[self._seq % len(CALLERS)], "api": "chat", "alias": "chat",
            "target": Target("local", "small"),
            "stream": stream, "status": 200, "outcome": "ok", "total_s": 0.4 + (self._seq % 13) / 40,
            "first_token_s": 0.1 + (self._seq % 5) / 50, "u": self.random.random(), "pi": 1.0, "stratum": "default",
            "incarnation": self._incarnation, "seq": self._seq,
            "request": orjson.dumps({"model": "m", "messages": [{"role": "user", "content": question}]}),
            "response": b'{"error":{"message":"no"}}' if failed else answer_bytes(text, usage, stream=stream),
        }  # fmt: skip
        plain |= {"status": 502, "outcome": "upstream_error"} if failed else {}
        made = Exchange(**{**plain, "unit": plain["id"], "client_bytes": len(plain["request"]), **fields})
        cell = (made.stratum, made.alias, str(made.target), made.arm or "")
        self._sent[cell] += 1
        self._seen[cell] += round(1 / (made.pi or 1.0))
        return made

    def pair(self, plan: Plan, at: float, control: str, arms: Mapping[str, str | None], **more: Any) -> list[Exchange]:
        """A served call and the answers of its shadows, by arm; None: the shadow's record is lost."""
        same = {"experiment": plan.name, "plan": plan.hash, "alias": plan.model, **more}
        served = self.call(at, control, arm="control", stratum=f"default+{plan.name}", asked=tuple(arms), **same)
        same |= {"pair": served.id, "unit": served.unit, "request": served.request, "caller": served.caller}
        made = [served]
        for n, (arm, text) in enumerate(arms.items(), start=1):
            repeats = arm == REPEAT
            its = {"arm": arm, "role": "control" if repeats else "shadow", "target": plan.target(arm)}
            its["stratum"] = f"{'repeat' if repeats else 'shadow'}:{plan.name}"
            if text is not None:
                made.append(self.call(at + 0.01 * n, text, **{**same, **its}))
        return made

    def tally(self, at: float) -> Tally:
        """The counts of all records so far."""
        sent = tuple(Count(*cell, n) for cell, n in self._sent.items())
        return Tally(
            self._incarnation, at, self._seq, tuple(Count(*cell, n) for cell, n in self._seen.items()), (), sent, sent
        )

    def feedback(self, on: Exchange, at: float, name: str, value: float) -> Feedback:
        return Feedback(on.id, f"f-{on.id}", on.caller, at, name, value, data_type="numeric")


def answer_bytes(text: str, usage: Mapping[str, int], *, stream: bool) -> bytes:
    """The upstream's answer, as one body or as a stream of two chunks."""
    if not stream:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return orjson.dumps({"choices": [choice], "usage": usage})
    first = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": text}}]}
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage}
    return b"data: %b\n\ndata: %b\n\ndata: [DONE]\n\n" % (orjson.dumps(first), orjson.dumps(last))
