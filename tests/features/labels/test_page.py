"""The page Label: blind items one by one, verdicts by keys or buttons, the other order, and a verdict taken back."""

from __future__ import annotations

import re

import pytest

from gateway.features.labels.rows import labels_of
from gateway.store.query import reading

QUEUE = "/console/label/queue?scorer=valid_json"
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202eevil"


@pytest.fixture
async def judged(pages, make_exchange):
    """Six answers that the scorer has judged."""
    await pages.add(*(make_exchange(f"answer {i}") for i in range(6)))
    return pages


async def queue(pages, client, path: str = QUEUE) -> str:
    """The page of the queue, once it has been drawn."""
    for _ in range(400):
        page = await pages.get(client, path)
        if "is being drawn" not in page:
            return page
    raise AssertionError("the queue is never drawn")


def item_of(page: str) -> dict[str, str]:
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page))
    return {name: fields[name] for name in ("csrf", "scorer", "experiment", "favour", "item", "order")}


def labels(pages, scorer: str = "valid_json") -> list[tuple[str, float | None, str]]:
    with reading(pages.store_url) as connection:
        return [(each.subject_id, each.value, each.labeller) for each in labels_of(connection, scorer)]


async def test_a_verdict_is_stored_and_the_next_item_comes(judged):
    client = await judged.login("labeller")
    first = item_of(await queue(judged, client))
    answer = await client.post("/console/label/verdict", data={**first, "verdict": "g", "comment": HOSTILE})
    assert answer.status_code == 303, answer.text
    assert labels(judged) == [(first["item"], 1.0, "lena")]
    page = await queue(judged, client)
    assert item_of(page)["item"] != first["item"]
    assert "1 given in this queue, 5 left" in page
    assert "local/small" not in page, "who answered is hidden"


async def test_a_second_click_on_the_same_item_changes_nothing(judged):
    client = await judged.login("labeller")
    first = item_of(await queue(judged, client))
    for verdict in ("g", "b"):
        await client.post("/console/label/verdict", data={**first, "verdict": verdict})
    assert labels(judged) == [(first["item"], 1.0, "lena")]


async def test_the_last_verdict_is_taken_back_and_its_item_comes_again(judged):
    client = await judged.login("labeller")
    first = item_of(await queue(judged, client))
    await client.post("/console/label/verdict", data={**first, "verdict": "b"})
    second = item_of(await queue(judged, client))
    await client.post("/console/label/undo", data=second)
    assert labels(judged) == []
    assert item_of(await queue(judged, client))["item"] == first["item"]


async def test_every_item_comes_once_and_then_the_queue_is_empty(judged):
    client, seen = await judged.login("labeller"), []
    while 'name="item"' in (page := await queue(judged, client)):
        seen.append(item_of(page))
        await client.post("/console/label/verdict", data={**seen[-1], "verdict": "s"})
    assert len({item["item"] for item in seen}) == 6
    assert "Nothing is left to label" in page


async def test_a_text_that_is_not_a_verdict_is_refused(judged):
    client = await judged.login("labeller")
    first = item_of(await queue(judged, client))
    answer = await client.post("/console/label/verdict", data={**first, "verdict": "great"})
    assert answer.status_code == 400
    assert labels(judged) == []


async def test_hostile_answers_are_shown_as_text(pages, make_exchange):
    await pages.add(make_exchange(HOSTILE))
    client = await pages.login("labeller")
    page = await queue(pages, client)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;␛[31m⟨U+202E⟩evil" in page


async def test_viewers_do_not_label(judged):
    viewer = await judged.login("viewer")
    assert (await viewer.get("/console/label")).status_code == 403
    answer = await judged.send(viewer, "/console", "/console/label/verdict", {"scorer": "valid_json", "verdict": "g"})
    assert answer.status_code == 403


async def test_a_scorer_that_scored_nothing_is_reported(judged):
    client = await judged.login("labeller")
    for _ in range(400):
        answer = await client.get("/console/label/queue?scorer=nobody")
        if answer.status_code != 200:
            break
    assert answer.status_code == 404
    assert "has scored nothing yet" in answer.text
    assert (await client.get(f"{QUEUE}&favour=none")).status_code == 400


async def test_two_labellers_have_a_queue_each(judged):
    lena, ada = await judged.login("labeller"), await judged.login("owner")
    one, other = item_of(await queue(judged, lena)), item_of(await queue(judged, ada))
    assert one["item"] == other["item"], "they are drawn in the same order"
    await lena.post("/console/label/verdict", data={**one, "verdict": "g"})
    await ada.post("/console/label/verdict", data={**other, "verdict": "b"})
    assert sorted(labels(judged)) == sorted([(one["item"], 1.0, "lena"), (one["item"], 0.0, "ada")])
