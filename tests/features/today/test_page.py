"""The first page of the morning."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
import yaml
from fixtures.retirements import use_week

from gateway.config.guards import GuardConfig
from gateway.config.loading import load_for_console
from gateway.config.retirements import day_of
from gateway.console.errors import StoreAway
from gateway.core.exchange import Target
from gateway.core.guards import GuardDecision, to_json
from gateway.features.guards.work import GuardWatch
from gateway.features.task import TaskWorker
from gateway.features.today.page import HourCache
from gateway.store.events import DeploymentEvent, add_events
from gateway.store.store import Store

HOUR = 3600.0


@pytest.fixture
def now(pages):
    """A time in the middle of an hour."""
    at = pages.admin.clock()
    pages.clock[0] += 1800 - at % HOUR
    return pages.admin.clock()


async def complete(pages, client):
    """The page once all hours are summed, on one line."""
    async with asyncio.timeout(60):
        while "of 48 hours are summed" in (page := await pages.get(client, "/console")):
            pass
    return " ".join(page.split())


async def test_a_drop_of_a_score_is_the_first_change(pages, make_exchange, now):
    hours = range(48)
    before = [make_exchange(received=now - h * HOUR) for h in hours for _ in range(8)]
    fell = [make_exchange(received=now - h * HOUR) for h in range(5) for _ in range(8)]
    await pages.add(*before, score=0.9)
    await pages.add(*fell, score=0.1)
    failed = [make_exchange(received=now - h * HOUR, outcome="timeout", status=504, target=Target("local", "large"))
              for h in range(2) for _ in range(40)]  # fmt: skip
    fine = [make_exchange(received=now - h * HOUR, target=Target("local", "large")) for h in hours for _ in range(4)]
    await pages.add(*failed, *fine, score=None)
    page = await complete(pages, await pages.login())
    found = re.findall(r"<li><span class=\"pill ([a-z]+)\">.*?</time>:\s*(.*?)<a", page, re.DOTALL)
    texts = [re.sub(r"<[^>]+>|\s+", " ", text) for _, text in found]
    assert [tone for tone, _ in found] == ["bad"] * len(found)
    assert "the score by valid_json of chat by local/small fell from 0.90 to " in re.sub(r"\s+", " ", texts[0])
    assert any("the share of failed calls" in re.sub(r"\s+", " ", t) and "GatewayErrorBurnFast" in t for t in texts)
    since = re.search(r'since <time datetime="([^"]+)"', page)
    assert since is not None
    begin = int((now - 4 * HOUR) // HOUR * HOUR)
    assert since[1].startswith(f"{datetime.fromtimestamp(begin, UTC):%Y-%m-%dT%H}")
    assert '<svg class="wide" role="img"' in page
    assert "The same as a table" in page


async def test_a_day_without_changes_says_so(pages, make_exchange, now):
    made = [make_exchange(received=now - h * HOUR) for h in range(48) for _ in range(3)]
    await pages.add(*made[::2], score=1.0)
    await pages.add(*made[1::2], score=0.0)
    page = await complete(pages, await pages.login())
    assert "no figure differs from what is usual" in page
    assert "A change is one from the available days, 1 so far" in page
    assert '<div class="figure">72</div> <div class="delta quiet">72 before</div>' in page


async def test_figures_represent_all_calls(pages, make_exchange, now):
    await pages.add(*(make_exchange(received=now - 60, pi=0.1) for _ in range(3)), cost=0.5)
    page = await complete(pages, await pages.login())
    assert '<div class="figure">30</div>' in page
    assert '<div class="figure">$15.00</div>' in page


async def test_the_share_of_failed_calls_has_an_interval(pages, make_exchange, now):
    fine = [make_exchange(received=now - h * HOUR, target=Target("local", t)) for h in range(24) for t in "ab" * 5]
    failed = [make_exchange(received=now - h * HOUR, outcome="timeout", status=504) for h in range(24)]
    await pages.add(*fine, *failed, score=None)
    page = await complete(pages, await pages.login())
    card = re.search(r'Failed</div><div class="figure">([\d.]+) %</div>.*?95 % interval ([\d.]+) % … ([\d.]+) %', page)
    assert card is not None
    share, low, high = map(float, card.groups())
    assert 3 < low < share < high < 20
    assert share == pytest.approx(100 / 11, abs=0.1)


async def test_few_calls_have_a_share_of_failures_and_no_interval(pages, make_exchange, now):
    await pages.add(*(make_exchange(received=now - 60) for _ in range(5)), score=None)
    page = await complete(pages, await pages.login())
    assert '<div class="name">Failed</div><div class="figure">0' in page
    assert "95 % interval" not in page.partition("</ul>")[0]


async def test_an_empty_store_says_so(pages):
    assert "No calls were recorded within 48 hours" in await complete(pages, await pages.login())


async def test_new_calls_are_counted_once_the_figures_are_old(pages, make_exchange, now):
    client = await pages.login()
    await pages.add(make_exchange(received=now - 5))
    page = await complete(pages, client)
    assert '<div class="figure">1</div>' in page
    assert "From 0 to 1, last 1" in page, "the chart of calls"
    await pages.add(make_exchange(received=now - 4))
    assert '<div class="figure">1</div>' in await pages.get(client, "/console")
    pages.clock[0] += 11
    async with asyncio.timeout(60):
        while '<div class="figure">2</div>' not in (page := await pages.get(client, "/console")):
            pass
    while "From 0 to 2, last 2" not in page:  # figures of a refresh that has not ended may come before its charts
        page = await pages.get(client, "/console")


class AwayStore:
    async def read(self, work):
        raise StoreAway("the store cannot be used: gone")


async def test_a_store_that_is_unreachable_leaves_the_figures_and_says_so():
    cache = HourCache(AwayStore(), lambda: 1e9)
    await cache.refresh()
    assert (cache.trouble, cache.complete_at, cache.known) == ("the store cannot be used: gone", 0.0, 0)


async def test_a_model_that_retires_is_an_entry_with_its_calls(pages, now):
    path, today = pages.data / "gateway.yaml", day_of(now)
    found = yaml.safe_load(path.read_text())
    for alias in ("chat", "other"):
        found["models"][alias]["targets"][0]["retires"] = today + timedelta(days=41)
    path.write_text(yaml.safe_dump(found))
    client = await pages.login("viewer")
    assert "Models that retire" not in await complete(pages, client)
    pages.config.append(load_for_console(path))
    calls = {"upstream": "local", "model": "small"}
    await pages.store.run(lambda connection: use_week(connection, today, 4000, alias="chat", **calls))
    await pages.store.run(lambda connection: use_week(connection, today, 1100, alias="other", **calls))
    pages.clock[0] += 11.0  # after which the figures are read again
    entry = await with_text(pages, client, "5\u202f100 calls a day")
    assert f"local/small retires in 41 days ({today + timedelta(days=41)}). 2 aliases (chat, other)" in entry
    assert "No draft: <bdi>no successor of local/small is listed; name one with --successor" in entry


async def test_the_entry_of_a_listed_model_has_the_text_of_its_draft(pages, now):
    path = pages.data / "gateway.yaml"
    found = yaml.safe_load(path.read_text())
    found["upstreams"]["openai"] = {"kind": "openai"}
    day = day_of(now) - timedelta(days=3)
    targets = [{"upstream": "openai", "model": "gpt-4o-mini", "retires": day}]
    found["models"]["fast"] = {"targets": targets}
    path.write_text(yaml.safe_dump(found))
    pages.config.append(load_for_console(path))
    page = await complete(pages, await pages.login("viewer"))
    assert "openai/gpt-4o-mini retired 3 days ago (" in page
    assert "Draft the experiment against gpt-6-luna: " in page
    text = re.search(r'aria-label="Draft of fast-to-gpt-6-luna">(.*?)</pre>', page)
    assert text is not None
    assert "candidate: upstream: openai model: gpt-6-luna" in text[1]
    assert "/console/experiments/new" not in page, "a viewer cannot make experiments"


async def test_an_owner_makes_the_experiment_of_the_draft(pages, now):
    path = pages.data / "gateway.yaml"
    found = yaml.safe_load(path.read_text())
    found["upstreams"]["openai"] = {"kind": "openai"}
    found["models"]["fast"] = {"targets": [{"upstream": "openai", "model": "gpt-4o-mini", "retires": day_of(now)}]}
    path.write_text(yaml.safe_dump(found))
    pages.config.append(load_for_console(path))
    client = await pages.login("owner")
    link = re.search(r'href="(/console/experiments/new[^"]*)">Make it here', await complete(pages, client))
    assert link is not None
    form = " ".join((await pages.get(client, unescape(link[1]))).split())
    for part in (
        'name="name" value="fast-to-gpt-6-luna"',
        '<option value="fast openai/gpt-4o-mini" selected>',
        '<option value="openai" selected>',
        'name="candidate_model" value="gpt-6-luna"',
        'name="share" value="20"',
        '<option value="error_rate" selected>',
        'name="margin" value="0.01"',
    ):
        assert part in form, part
    assert 'name="start" value="1"> start' in form, "a draft does not start by itself"


async def with_text(pages, client, text):
    """The page once it has this text, on one line."""
    async with asyncio.timeout(60):
        while text not in (page := await pages.get(client, "/console")):
            pass
    return " ".join(page.split(" "))


async def test_48_hours_are_drawn_with_what_happened(pages, make_exchange, now):
    small = [make_exchange(received=now - h * HOUR) for h in range(40) for _ in range(2)]
    large = [make_exchange(received=now - h * HOUR, alias="other") for h in range(3)]
    await pages.add(*small, *large, score=1.0)
    event = DeploymentEvent("deploy:1", now - 5 * HOUR, "deploy", "0.5.0", "gateway 0.5.0 <script>alert(1)</script>")
    await pages.store.run(lambda connection: add_events(connection, [event]))
    client = await pages.login()
    page = await complete(pages, client)
    assert "As usual: 51 calls within 24 hours, and no figure changed." in page
    for title in ("Calls an hour", "Failed", "p95 of the time", "Cost an hour", "valid_json"):
        assert f"<figcaption><strong><bdi>{title}</bdi></strong></figcaption>" in page
    assert page.count('class="event"') == 5, "in each chart"
    assert "gateway 0.5.0 &lt;script&gt;alert(1)" in page
    assert "each weighted by 1/π so that it represents all calls" in page
    assert "on the available days" in page
    one = await pages.get(client, "/console?of=other+local/small")
    assert re.search(r'<option value="other local/small" selected>', one)
    assert "From 0 to 3, last 3" in page
    assert "From 0 to 1, last 1" in one


async def test_the_first_day_says_what_will_appear(pages):
    page = await complete(pages, await pages.login())
    assert "No calls within 48 hours." in page
    assert "Your first day" in page
    assert page.index("Send a call.") < page.index("Read what was answered.") < page.index("Ask the question.")
    assert 'class="cards"' not in page, "zeros would look like figures"
    assert "What is usual, in grey behind the lines: on the second day; by weekday after two weeks." in page


async def test_a_change_is_the_headline(pages, make_exchange, now):
    hours = range(48)
    await pages.add(*(make_exchange(received=now - h * HOUR) for h in hours for _ in range(8)), score=0.9)
    await pages.add(*(make_exchange(received=now - h * HOUR) for h in range(5) for _ in range(8)), score=0.1)
    page = await complete(pages, await pages.login())
    found = re.search(r'<h1 class="sentence" dir="auto">([^<]+)</h1>', page)
    assert found is not None
    assert found[1].startswith("valid_json of chat fell from 0.90 to 0.")
    assert len(unescape(found[1])) <= 90
    assert 'class="changed bad"' in page


async def test_a_refresh_that_completes_meanwhile_is_shown_whole(pages, make_exchange, now, monkeypatch):
    """The figures are complete after the page has read those that there were, and before it draws the hours."""
    await pages.add(*(make_exchange(received=now - h * HOUR) for h in range(48)), score=1.0)
    series = HourCache.series

    async def of_the_refresh_before(cache, group):
        found = await series(cache, group)
        async with asyncio.timeout(60):
            while not cache.complete_at:
                await asyncio.sleep(0.01)
        return found

    monkeypatch.setattr(HourCache, "series", of_the_refresh_before)
    monkeypatch.setattr("gateway.features.today.page.WAIT_S", 0.0)
    page = " ".join((await pages.get(await pages.login(), "/console")).split())
    assert "of 48 hours are summed" not in page
    assert "As usual: 24 calls within 24 hours, and no figure changed." in page
    assert "<figcaption><strong><bdi>Calls an hour</bdi></strong></figcaption>" in page


async def test_guards_have_a_line_each(pages, make_exchange, now):
    def decided(hit: bool) -> str:
        return to_json([GuardDecision("mails", "answer", "block", "hit" if hit else "pass", hit, float(hit))])

    await pages.add(*(make_exchange(received=now - 60 - i, unit=f"u{i}", guards=decided(i < 3)) for i in range(30)))
    async with Store(pages.store_url) as store:
        await GuardWatch(TaskWorker(store, "c1", lambda: now), ("mails",)).look()
    client = await pages.login("viewer")
    assert "blocks 10" not in await complete(pages, client), "it is not in the config"
    pages.clock[0] += 60
    guard = GuardConfig.model_validate({"on": "answer", "scorer": "personal_data", "action": "block"})
    pages.config.append(pages.config[-1].model_copy(update={"guards": {"mails": guard}}))
    async with asyncio.timeout(60):
        while "blocks 10" not in (page := await complete(pages, client)):
            pass
    assert "blocks 10.0 % of calls; none of those is labelled" in page
    assert 'href="/console/guards/of/mails?since=24h"' in page
