"""Of two aliases at one model, and of two models at one upstream, Prometheus names the one that got worse."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.cli.dashboards import panels_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[2]
WORSE, OTHERS = ("support", "good", "big"), {("support", "good", "m"), ("code", "good", "big")}
PLACE = ("alias", "upstream", "model")
ONLY = '{alias=~"support|code", scorer="valid_json"}'


def panel(title: str) -> dict[str, str]:
    """PromQL of a panel by the first word of its legend; the window is an hour."""
    page = json.loads((ROOT / "grafana" / "dashboards" / "evaluation.json").read_text("utf-8"))
    (found,) = (panel for panel in panels_of(page) if panel["title"] == title)
    return {
        target["legendFormat"].split()[0]: target["expr"]
        .replace("$__rate_interval", "1h")
        .replace("$scorer", "valid_json")
        for target in found["targets"]
    }


def documented(title: str) -> str:
    """The query below a heading in bold of docs/metrics.md."""
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    return re.search(r"```promql\n(.*?)```", page[page.index(f"**{title}") :], re.S)[1]  # type: ignore[index]


async def by_place(whole: Any, promql: str) -> dict[tuple[str, ...], float]:
    rows = await whole.query(promql)
    return {tuple(row["metric"][name] for name in PLACE): float(row["value"][1]) for row in rows}


async def page_of(port: int) -> str:
    async with httpx2.AsyncClient(timeout=20) as client:
        answer = await client.get(f"http://127.0.0.1:{port}/metrics")
    assert answer.status_code == 200
    return answer.text


async def complaints(page: str) -> str:
    """Runs `promtool check metrics`, and returns what it finds fault with."""
    promtool = await asyncio.create_subprocess_exec(
        str(shutil.which("promtool")), "check", "metrics", stdin=PIPE, stdout=PIPE, stderr=STDOUT
    )
    return (await promtool.communicate(page.encode()))[0].decode()


async def test_prometheus_names_the_alias_and_target_that_got_worse(
    whole: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    firing = 'ALERTS{alertname="GatewayScoreObjectiveMissed", alertstate="firing"}'

    judged = 'gateway:score_objective_missed{window="1h"}'

    async def rings_and_all_are_judged() -> bool:
        return bool(await whole.query(firing)) and len(await by_place(whole, judged)) == 3

    await whole.an_objective_is_missed()
    await whole.until(rings_and_all_are_judged, "the alert does not ring")
    alert = await by_place(whole, firing)
    missed = await by_place(whole, f"{judged} == 1")
    met = await by_place(whole, f"{judged} == 0")
    mean = await by_place(whole, panel("Mean by alias in the window")["{{alias}}"] + " < 0.5")
    objectives = await by_place(whole, panel("Scores and their objectives")["upper"] + " < 0.9")
    joined = await by_place(whole, documented("Scores and traffic are joined"))
    old = await whole.query('gateway_eval_score_mean{scorer="valid_json", arm="", model=~"good/.*"}')
    with capsys.disabled():
        print(f"\nalert: {alert}\nmissed: {missed}, met: {met}\nmean below 0.5: {mean}\njoined to cost: {joined}\n"  # noqa: T201
              f"by model alone: { {row['metric']['model']: row['value'][1] for row in old} }")  # fmt: skip
    assert set(alert) == set(missed) == set(mean) == set(objectives) == {WORSE}
    assert set(met) == OTHERS
    assert ("support", "good", "m") in joined, "its model has a price"


async def test_promtool_accepts_the_pages_of_running_programs(whole: Any) -> None:
    gateway, consumer, console = whole.ports[0], whole.ports[1], whole.ports[5]
    await whole.worse_answers()
    await whole.until_value("sum(gateway_eval_alias_score_weight_total)", lambda weight: weight > 0)
    for port, family in ((gateway, "gateway_requests_total"), (consumer, "gateway_eval_alias_score_mean"),
                         (console, "gateway_admin_requests_total")):  # fmt: skip
        page = await page_of(port)
        assert f"# TYPE {family} " in page
        assert await complaints(page) == ""
    assert "no help text" in await complaints("# TYPE gateway_x gauge\ngateway_x 1\n"), "it does complain"
