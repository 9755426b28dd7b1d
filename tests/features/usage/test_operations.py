"""The operation on usage over HTTP."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from gateway.core.exchange import Tally
from gateway.core.usage import UsageCell, UsageCount, UsageSums
from gateway.store.usage import add_usage


async def test_usage_is_summed_filtered_and_exported(console):
    def using(connection: Any) -> None:
        cells = (("key_1", "web", "search", 3), ("key_2", "app", "other", 4))
        usages = [
            UsageCount(UsageCell(f"{date.today()}", id, name, team, "", "", "chat", "u", "m", "", "", ""),
                       UsageSums(calls=n, input_tokens=10 * n, nano_usd=n * 10**9))
            for id, name, team, n in cells
        ]  # fmt: skip
        add_usage(connection, Tally(incarnation="g", at=1.0, last_seq=1, seen=(), usage=tuple(usages)))

    await console.admin.store.run(using)
    found = (await console.owner.get("/usage", params={"by": "team,key", "since": "2d"})).json()
    assert [(row["team"], row["key"], row["key_name"], row["calls"], row["usd"]) for row in found["rows"]] == [
        ("other", "key_2", "app", 4, 4.0),
        ("search", "key_1", "web", 3, 3.0),
    ]
    assert found["total"]["input_tokens"] == 70
    only = (await console.clients["viewer"].get("/usage", params={"by": "team", "where": "team=search"})).json()
    assert [row["team"] for row in only["rows"]] == ["search"]
    table = await console.owner.get("/usage", params={"by": "team", "format": "csv"})
    assert table.headers["content-type"].startswith("text/csv")
    assert table.text.splitlines()[0].startswith("team,calls,")
    assert len(table.text.splitlines()) == 3


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("by=teem", 'usage has no dimension "teem"; did you mean "team"?'),
        ("where=since=1", 'where: usage has no dimension "since"'),
        ("where=team", "where: 'team' is not a condition; write team=search"),
        ("since=soon", "'soon' is neither a day nor a time span"),
        ("format=xml", "format: expected json or csv, got 'xml'"),
    ],
)
async def test_a_question_about_usage_that_makes_no_sense_is_refused(console, query, message):
    answer = await console.owner.get(f"/usage?{query}")
    assert (answer.status_code, answer.json()["error"]["message"][: len(message)]) == (400, message)
