"""The pages of runs: the list, the worst first, and the timeline; as a browser without JavaScript gets them."""

from __future__ import annotations

import re
import time
from typing import Any

import orjson
from sqlalchemy import update

from gateway.core.exchange import run_key
from gateway.features.runs.rows import scorers_of_runs
from gateway.store.tables import runs, scores

HOSTILE = "<script>alert(1)</script>"


def listed(page: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="/console/runs/([^"]+)">', page)


async def add_runs(pages: Any, make_exchange: Any, n: int) -> list[str]:
    """n runs of two calls, each a second after the previous one. Returns their ids."""
    now = time.time() - 1000
    for i in range(n):
        of = {"run": f"task-{i}", "run_source": "x-gateway-run"}
        await pages.add(*(make_exchange(received=now + i + part / 10, **of) for part in range(2)))
    return [run_key("web", f"task-{i}") for i in range(n)]


async def mark(pages: Any, run_id: str, value: float) -> None:
    """Turns the score of the run's first call into one of the run."""

    def marking(connection: Any) -> None:
        first = connection.exec_driver_sql("SELECT MIN(id) FROM exchanges WHERE run_id = ?", (run_id,)).scalar()
        given = {"subject": "run", "value": value, "value01": value}
        connection.execute(update(scores).where(scores.c.exchange_id == first).values(given))
        connection.execute(update(runs).where(runs.c.run_id == run_id).values(scored_on=first, scored_to=1e12))

    await pages.store.run(marking)


async def test_runs_are_listed_from_newest_to_oldest(pages: Any, make_exchange: Any) -> None:
    made = await add_runs(pages, make_exchange, 55)
    client = await pages.login()
    page = await pages.get(client, "/console/runs")
    assert listed(page) == made[:4:-1]
    assert "The newest 50 runs; none had a call that failed" in page
    following = re.search(r'<a href="([^"]+)" rel="next"', page)
    assert following is not None
    assert listed(await pages.get(client, following[1].replace("&amp;", "&"))) == made[4::-1]
    assert listed(await pages.get(client, "/console/runs?caller=nobody")) == []
    assert listed(await pages.get(client, "/console/runs?caller=web&since=24h")) == made[:4:-1]


async def test_the_worst_runs_come_first(pages: Any, make_exchange: Any) -> None:
    made = await add_runs(pages, make_exchange, 4)
    for run_id, value in zip(made, (0.5, 0.0, 1.0, 0.5), strict=True):
        await mark(pages, run_id, value)
    assert await pages.store.read(scorers_of_runs) == ["valid_json"]
    page = await pages.get(await pages.login(), "/console/runs?worst=valid_json")
    assert listed(page) == [made[i] for i in (1, 3, 0, 2)]
    assert "worst first by valid_json" in page


async def test_a_bad_filter_is_reported(pages: Any) -> None:
    answer = await (await pages.login()).get("/console/runs?since=soon")
    assert answer.status_code == 400
    assert "is not a time span" in answer.text


async def test_a_timeline_hides_texts_from_who_may_not_read_them(pages: Any, make_exchange: Any) -> None:
    tool = {"id": "t", "type": "function", "function": {"name": HOSTILE, "arguments": '{"where": "attic"}'}}
    choice = {"index": 0, "message": {"content": "in the attic", "tool_calls": [tool]}, "finish_reason": "tool_calls"}
    of = {"run": HOSTILE, "run_source": "metadata.run_id", "response": orjson.dumps({"choices": [choice]})}
    now = time.time()
    failed = make_exchange(received=now - 5, status=500, outcome="upstream_error", **of)
    await pages.add(make_exchange(received=now - 9, **of), failed, make_exchange(received=now - 1, **of))
    path = f"/console/runs/{run_key('web', HOSTILE)}"
    page = await pages.get(await pages.login(), path)
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert "First failure" in page
    assert f'href="#call-{failed.id}"' in page
    assert "time 3" in page
    assert "in the attic" in page
    assert f'<a href="{path}">' in await pages.get(await pages.login(), f"/console/calls/{failed.id}")
    hidden = await pages.get(await pages.login("viewer"), path)
    assert not any(word in hidden for word in ("attic", "script&gt;alert"))
    assert "tool 1" in hidden
    assert (await (await pages.login()).get("/console/runs/none")).status_code == 404
