"""`--reuse-control`: answers of the control that recorded traffic already has, so that they are not paid for twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.core.completion import Completion, completion_of
from gateway.core.exchange import Exchange
from gateway.core.json_values import parse_object
from gateway.features.replay.datasets.datasets import DatasetItem, bare
from gateway.features.replay.rows import ReplayAnswer, ReplayStore
from gateway.features.replay.sending.asking import ReplayRequest
from gateway.features.replay.sending.run import Asks
from gateway.features.targets import ReplayTarget
from gateway.store.missing_scores import StoredExchange, stored_exchanges


@dataclass(slots=True)
class ReusingRequester:
    """Takes the control's first answer to an item from the store, where it fits, and asks for any other.

    It fits if the item is a recorded call that this target served, with the same request, and its complete answer is
    stored. A seed may differ, since a replay adds one.
    """

    store: ReplayStore
    requester: Asks
    control: ReplayTarget
    reused: int = field(default=0, init=False)

    async def ask(self, request: ReplayRequest) -> ReplayAnswer:
        recorded = request.item.exchange_id
        if recorded is not None and request.repeat == 1 and request.target == self.control:
            found = await self.store.run(lambda connection: stored_exchanges(connection, [recorded]))
            answer = logged_answer(request, found[0]) if found else None
            if answer is not None:
                self.reused += 1
                return answer
        return await self.requester.ask(request)


def logged_answer(request: ReplayRequest, stored: StoredExchange) -> ReplayAnswer | None:
    """The stored answer as an answer to the request, with the time and the cost that it had; None if it does not
    fit.
    """
    e = stored.exchange
    completion = recorded_answer(e, request.target.name)
    if completion is None or not _same_request(request.item, e):
        return None
    response = _plain_body(e, completion)
    if response is None:
        return None
    usage = completion.usage or e.usage
    return request.answer(
        "ok",
        e.total_s,
        e.received,
        status=e.status,
        upstream=e.target.upstream,
        model=e.target.model,
        finish_reason=completion.finish_reason,
        **(usage.tokens() if usage else {}),
        cost_usd=stored.cost_usd,
        exchange_id=e.id,
        text=completion.text,
        response=response,
    )


def recorded_answer(e: Exchange, target: str) -> Completion | None:
    """The complete answer that this target gave when the call was served; None if there is none."""
    # An alias is served by whichever of its targets answered.
    if target not in (e.alias, str(e.target)):
        return None
    if e.outcome != "ok" or e.status >= 400 or e.truncated or e.role != "served":
        return None
    completion = completion_of(e)
    return None if completion.error is not None else completion


def _same_request(item: DatasetItem, e: Exchange) -> bool:
    """Whether the item is the request that was sent, apart from what a dataset leaves out."""
    sent = parse_object(e.request)
    return e.api == item.api and sent is not None and _seedless(bare(sent)) == _seedless(dict(item.request))


def _seedless(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "seed"}


def _plain_body(e: Exchange, completion: Completion) -> bytes | None:
    """The answer as a body without stream, as a replay stores it; None for an API whose streams are not rebuilt."""
    if e.form == "raw" and not e.stream:
        return e.response
    if e.api != "chat":
        return None
    calls = [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
        for c in completion.tool_calls
    ]
    message: dict[str, Any] = {"role": "assistant", "content": completion.text}
    more = {"tool_calls": calls, "refusal": completion.refusal, "reasoning_content": completion.reasoning}
    message |= {name: value for name, value in more.items() if value}
    choice = {"index": 0, "message": message, "finish_reason": completion.finish_reason}
    usage = completion.usage or e.usage
    counted = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens} if usage else None
    return orjson.dumps({"choices": [choice], **({"usage": counted} if counted else {})})
