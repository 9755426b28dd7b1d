"""The page Routes: leaves with their calls, the curve, and a form that learns and freezes another route."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fixtures.cascades import a_cascade
from fixtures.learned_routes import EVIDENCE, ROUTE, a_route

from gateway.config.loading import load_for_console
from gateway.config.routes import ConfiguredRoute, read_route
from gateway.config.upstreams import TargetRef
from gateway.features.route.work import keep_returned

PATH = "/console/routes"
POINT = {"leaves": [0], "share": 0.8, "p": 1e-5, "loss": {"value": 0.01, "low": -0.02, "high": 0.04}, "saved": None}


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html[html.index("<main") :]))


def configure(pages: Any) -> Any:
    route = a_route(evidence={**EVIDENCE, "curve": [POINT], "chosen": 0})
    refs = [TargetRef.model_validate(each.section) for each in (route.control, route.moved)]
    pages.config.append(pages.config[-1].model_copy().with_routes({route.name: ConfiguredRoute(route, *refs)}))
    return route


async def test_without_a_route_the_page_says_what_one_is(pages: Any) -> None:
    assert "No target of gateway.yaml is a learned route" in words(await pages.get(await pages.login("viewer"), PATH))


async def test_a_cascade_that_gateway_yaml_holds_is_shown(pages: Any) -> None:
    route = a_cascade()
    refs = [TargetRef.model_validate(each.section) for each in (route.control, route.moved)]
    pages.config.append(pages.config[-1].model_copy().with_routes({route.name: ConfiguredRoute(route, *refs)}))
    page = words(await pages.get(await pages.login("viewer"), PATH))
    assert "from u0/model-u0 to u1/small ; a cascade, digest" in page
    assert re.search(r"0 accepted: hedges &lt; 1 and truncation &lt; 1 moved", page), page


async def test_each_leaf_shows_its_calls(pages: Any, make_exchange: Any) -> None:
    route = configure(pages)
    now = pages.admin.clock()
    calls = [make_exchange(received=now - 60, route=f"{ROUTE}/0") for _ in range(3)]
    calls += [make_exchange(received=now - 60, route=f"{ROUTE}/1", outcome="upstream_error", status=502)]
    calls += [make_exchange(received=now - 60, route=f"{ROUTE}/unlike")]
    calls += [make_exchange(received=now - 200_000, route=f"{ROUTE}/0"), make_exchange(received=now - 60)]
    await pages.add(*calls)
    html = await pages.get(await pages.login("viewer"), PATH)
    page = words(html)
    assert route.digest in page
    assert re.search(r"\w+ moves 80\.0 % of \w+ to \w+", page), page
    assert re.search(r"0 no code moved 80\.0 % −0\.01 3 0 –", page), page
    assert re.search(r"1 code control 20\.0 % 0\.3 1 1 –", page), page
    assert "1 calls in 24 h were unlike" in page
    assert html.count("<svg") == 2
    assert "80% of the traffic can move" in page


async def test_a_leaf_that_was_taken_back_is_shown(pages: Any) -> None:
    route = configure(pages)
    await pages.store.run(lambda c: keep_returned(c, route.digest, frozenset({0}), 1.0))
    page = words(await pages.get(await pages.login("viewer"), PATH))
    assert "0 no code taken back" in page
    assert "moves 0.0 % of" in page
    assert "1 group taken back" in page


@pytest.fixture
async def learnable(pages: Any, experiment: Any) -> Any:
    """The console on the store of an experiment with enough pairs."""
    experiment.room.store_url = pages.store_url
    plan = experiment.configure()
    await experiment.room.begin(plan)
    await experiment.send(plan, 400)
    read = load_for_console(experiment.path)
    pages.config.append(read.model_copy(update={"admin": pages.config[0].admin}))
    return experiment


async def test_an_owner_learns_and_freezes_a_route(pages: Any, learnable: Any) -> None:
    client = await pages.login("owner")
    page = words(await pages.get(client, f"{PATH}?experiment=swap&kind=tree"))
    assert "of the traffic can move: the loss of valid_json" in page
    assert re.search(r"code control", page)
    form = {"experiment": "swap", "kind": "tree", "name": "safe"}
    answer = await pages.send(client, f"{PATH}?experiment=swap", PATH, form)
    assert answer.status_code == 303
    route = read_route(learnable.path, "safe")
    assert (route.name, route.alias) == ("safe", "chat")
    again = await pages.send(client, f"{PATH}?experiment=swap", PATH, form)
    assert (again.status_code, "a frozen route stays as it is" in again.text) == (400, True)
    page = words(await pages.get(client, f"{PATH}?experiment=swap&kind=cascade"))
    assert re.search(r"\d streamed control", page), page
    cascade = {**form, "kind": "cascade", "name": "careful"}
    assert (await pages.send(client, f"{PATH}?experiment=swap", PATH, cascade)).status_code == 303
    assert read_route(learnable.path, "careful").cascade
    wrong = await pages.send(client, f"{PATH}?experiment=swap", PATH, {**form, "name": "../safe"})
    assert (wrong.status_code, "expected letters" in wrong.text) == (400, True)


async def test_only_owners_freeze(pages: Any, learnable: Any) -> None:
    client = await pages.login("viewer")
    html = await pages.get(client, f"{PATH}?experiment=swap")
    assert "Freeze in a file" not in html
    answer = await client.post(PATH, data={"experiment": "swap", "name": "safe"})
    assert answer.status_code == 403


async def test_an_experiment_without_pairs_says_why(pages: Any) -> None:
    answer = await (await pages.login("viewer")).get(f"{PATH}?experiment=none")
    assert answer.status_code == 400
    assert "no experiment &#34;none&#34; in the config" in answer.text
