"""Calls by TypeSafe's SDK, in its environment, of a gateway.

    python typesafe_calls.py ORIGIN KEY MODEL…

Prints, as JSON, for each model: what was answered, or the class and status of the error.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def called(origin: str, key: str, model: str) -> list[Any]:
    from typesafe_sdk import Choice, Noul, Score, TypeSafeAPIError, TypeSafeClient

    questions = {
        "refund": Noul(instructions="charged twice"),
        "team": Choice(instructions="Which team?", criteria={"billing": "payments", "delivery": None}),
        "tone": Score(instructions="How upset?", criteria=["calm", "furious"]),
    }
    with TypeSafeClient(api_key=key, base_url=origin, model=model) as client:
        try:
            result = client.system_one(state="charged twice, furious about billing", questions=questions)
        except TypeSafeAPIError as error:
            return [type(error).__name__, error.status]
    answers = result.answers
    return [
        sorted(answers),
        answers["refund"].noul > 0.5 if "refund" in answers else None,
        answers["team"].choice,
        answers["tone"].legend[1],
    ]


if __name__ == "__main__":
    at, secret, *models = sys.argv[1:]
    print(json.dumps([called(at, secret, model) for model in models]))
