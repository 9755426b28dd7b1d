"""Run by the interpreter of `.real/litellm`: draws of LiteLLM's own router, whose shares the import has to keep.

Reads cases from stdin (fixtures/litellm_shares.json), and prints for each how often each deployment was drawn.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # nothing is read from the network

from litellm import Router

MESSAGES = [{"role": "user", "content": "hi"}]


async def drawn(case: dict[str, Any], n: int) -> list[int]:
    """Counts by deployment. With `in_flight`, this number of calls is under way, without a network."""
    busy = case.get("in_flight")
    model_list = [
        {
            "model_name": "m",
            "litellm_params": {"model": f"openai/m{i}", "api_key": "sk-x", "api_base": "http://127.0.0.1:1/v1"}
            | params
            | ({"mock_response": str(i), "mock_delay": 0.02} if busy else {}),
            "model_info": {"id": str(i)},
        }
        for i, params in enumerate(case["deployments"])
    ]
    router = Router(model_list=model_list, **case.get("router", {}))
    counts: Counter[str] = Counter()

    async def select() -> None:
        found = await router.async_get_available_deployment(model="m", messages=MESSAGES, request_kwargs={})
        counts[found["model_info"]["id"]] += 1

    async def answer(places: asyncio.Semaphore) -> None:
        async with places:
            counts[(await router.acompletion(model="m", messages=MESSAGES)).choices[0].message.content] += 1

    if busy:
        places = asyncio.Semaphore(busy)
        await asyncio.gather(*(answer(places) for _ in range(n)))
    else:
        for _ in range(n):
            await select()
    return [counts[str(i)] for i in range(len(model_list))]


async def main() -> None:
    asked = json.load(sys.stdin)
    print(json.dumps([await drawn(case, asked["draws"]) for case in asked["cases"]]))


if __name__ == "__main__":
    asyncio.run(main())
