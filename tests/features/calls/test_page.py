"""The list of calls, and one call, as a browser without JavaScript gets them."""

from __future__ import annotations

import html
import re
import time
from dataclasses import replace

import orjson
import pytest

from gateway.core.exchange import Feedback, Target
from gateway.features.calls.page import CallSearch, call_headline, headline
from gateway.features.calls.rows.calls import called_tools
from gateway.features.calls.rows.facets import Facet, Facets
from gateway.features.labels.rows import labels_of

HOSTILE = "<script>alert(1)</script> \x1b[31mred \u202eevil <b onmouseover=x>"


def ids(page: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="/console/calls/([^"]+)">', page)


def following(page: str) -> str | None:
    found = re.search(r'<a href="([^"]+)" rel="next"', page)
    return None if found is None else html.unescape(found[1])


@pytest.fixture
def ten(make_exchange):
    """Ten exchanges, one a second."""
    now = time.time()
    return [make_exchange(f"answer {i}", received=now - 100 + i) for i in range(10)]


async def test_the_list_is_paged_by_key_from_newest_to_oldest(pages, make_exchange):
    now = time.time()
    made = [make_exchange(received=now - (i // 3)) for i in range(120)]
    await pages.add(*made)
    client, path, found = await pages.login(), "/console/calls", []
    for _ in range(3):
        page = await pages.get(client, path)
        found += ids(page)
        path = following(page)
    assert path is None
    assert "offset" not in page
    expected = sorted(made, key=lambda e: (e.received, e.id), reverse=True)
    assert found == [e.id for e in expected]


async def test_new_calls_do_not_shift_the_next_page(pages, make_exchange):
    now = time.time()
    made = [make_exchange(received=now - i) for i in range(60)]
    await pages.add(*made)
    client = await pages.login()
    first = await pages.get(client, "/console/calls")
    await pages.add(*(make_exchange(received=now + i) for i in range(5)))
    second = await pages.get(client, following(first))
    assert ids(first) + ids(second) == [e.id for e in made]


async def test_the_worst_come_first_and_perfect_ones_not_at_all(pages, ten):
    for one, value in zip(ten, [0.5, 1.0, 0.0, 0.0, 0.75, 1.0, 1.0, 0.25, 0.0, 1.0], strict=True):
        await pages.add(one, score=value)
    page = await pages.get(await pages.login(), "/console/calls?worst=valid_json")
    assert ids(page) == [ten[i].id for i in (8, 3, 2, 7, 0, 4)], "the newest of one score first"
    assert "worst first by valid_json" in page


async def test_the_worst_are_paged_by_key(pages, make_exchange):
    now = time.time()
    made = [make_exchange(received=now - i) for i in range(130)]
    for value in (0.0, 0.5):
        await pages.add(*(e for i, e in enumerate(made) if (i % 2 == 0) == (value == 0.0)), score=value)
    client, path, found = await pages.login(), "/console/calls?worst=valid_json&since=24h", []
    while path is not None:
        page = await pages.get(client, path)
        found += ids(page)
        path = following(page)
    assert found == [e.id for e in made[::2]] + [e.id for e in made[1::2]]


async def test_the_form_and_the_text_filter_alike(pages, make_exchange):
    now = time.time()
    one = make_exchange("a refund", received=now - 1)
    other = make_exchange("nothing", received=now - 2, alias="other", outcome="timeout", status=504)
    late = make_exchange("a refund", received=now - 90_000, target=Target("local", "large"), caller='we"b')
    await pages.add(one, other, late)
    client = await pages.login()

    async def found(query: str) -> list[str]:
        return ids(await pages.get(client, f"/console/calls?{query}"))

    assert await found("alias=other") == await found("where=alias%3Dother") == [other.id]
    assert await found("outcome=timeout") == [other.id]
    assert await found("words=refund") == [one.id, late.id]
    assert await found("words=refund&since=24h") == [one.id]
    assert await found("model=large&where=status%3D200+or+status%3D504") == [late.id]
    assert await found("caller=we%22b") == [late.id]
    assert await found("where=scorer%3Dvalid_json+value%3C1") == []
    page = await pages.get(client, "/console/calls?alias=chat&words=refund")
    assert "alias=&#34;chat&#34; text~&#34;refund&#34;" in page, "the same as text"


async def test_a_mistake_in_the_text_is_explained(pages, ten):
    await pages.add(*ten)
    answer = await (await pages.login()).get("/console/calls?where=outcom%3Dok")
    assert answer.status_code == 400
    assert "did you mean &#34;outcome&#34;" in answer.text
    assert (await (await pages.login()).get("/console/calls?after=x")).status_code == 400
    assert (await (await pages.login()).get("/console/calls?since=yesterday")).status_code == 400


async def test_a_list_takes_as_many_queries_for_one_call_as_for_fifty(pages, make_exchange, queries):
    client = await pages.login()
    await pages.add(make_exchange(), score=0.5)
    counts = {}
    for n in (1, 49):
        if n > 1:
            await pages.add(*(make_exchange() for _ in range(n)), score=0.5)
        for path in ("/console/calls", "/console/calls?worst=valid_json"):
            with queries() as seen:
                await pages.get(client, path)
            of_page = [each for each in seen if "console_sessions" not in each and "version_num" not in each]
            counts.setdefault(path, []).append(len(of_page))
    assert all(len(set(each)) == 1 for each in counts.values()), counts


async def test_a_call_shows_everything_that_is_known_of_it(pages, make_exchange):
    answer = {"choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
        "content": "let me look", "tool_calls": [{"id": "c1", "type": "function", "function": {
            "name": "weather", "arguments": '{"city":"Oslo"}'}}]}}]}  # fmt: skip
    request = {"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "what weather?"}]}
    one = make_exchange(response=orjson.dumps(answer), request=orjson.dumps(request), client_id="mine-1")
    said = Feedback(one.id, "f1", "web", time.time(), "thumb", 0.0, comment="too cold", correction="It snows.")
    await pages.add(one, score=0.25, why="a good reason", feedback=[said])
    page = await pages.get(await pages.login(), f"/console/calls/{one.id}")
    for text in ("be kind", "what weather?", "let me look", "weather", "Oslo", "a good reason", "0.25", "too cold",
                 "It snows.", "mine-1", "local/small"):  # fmt: skip
        assert text in html.unescape(page), text


async def test_the_paired_answer_is_shown_with_a_word_diff(pages, make_exchange):
    served = make_exchange("the quick brown fox", experiment="swap", arm="control")
    shadow = make_exchange("the slow brown fox", role="shadow", pair=served.id, experiment="swap", arm="candidate",
                           target=Target("local", "large"))  # fmt: skip
    await pages.add(served, score=1.0)
    await pages.add(shadow, score=0.5)
    client = await pages.login()
    for one, other in ((served, shadow), (shadow, served)):
        page = await pages.get(client, f"/console/calls/{one.id}")
        assert "<del>quick</del>" in page
        assert "<ins>slow</ins>" in page
        assert f'href="/console/calls/{other.id}"' in page


FIELDS = ("text", "prompt", "caller", "why", "alias", "model", "arm", "client_id", "tool")


def hostile_in(field, make_exchange):
    fields = {"experiment": "swap"}
    if field in ("caller", "alias", "arm", "client_id"):
        fields[field] = HOSTILE
    if field == "model":
        fields["target"] = Target("local", HOSTILE)
    if field == "prompt":
        fields["request"] = orjson.dumps({"messages": [{"role": HOSTILE, "content": HOSTILE}]})
    if field == "tool":
        call = {"id": HOSTILE, "function": {"name": HOSTILE, "arguments": HOSTILE}}
        answer = {"choices": [{"index": 0, "message": {"content": "x", "tool_calls": [call]}}]}
        fields["response"] = orjson.dumps(answer)
    return make_exchange(HOSTILE if field == "text" else "plain", **fields)


async def test_hostile_texts_are_shown_as_text(pages, make_exchange):
    """One call for each field: each page of it shows the text, and none lets it act."""
    client = await pages.login()
    made = {field: hostile_in(field, make_exchange) for field in FIELDS}
    for field, one in made.items():
        await pages.add(one, why=HOSTILE if field == "why" else "why")
    shown = {field: await pages.get(client, f"/console/calls/{one.id}") for field, one in made.items()}
    shown |= {path: await pages.get(client, path) for path in ("/console/calls", "/console")}
    for of, page in shown.items():
        assert "<script>alert" not in page, of
        assert "<b onmouseover" not in page, of
        assert "\x1b" not in page, of
        assert "\u202e" not in page, of
        if of != "/console":
            assert "&lt;script&gt;alert(1)" in page, of
            assert "␛[31mred ⟨U+202E⟩evil" in page, of


async def test_readers_without_content_get_figures_only(pages, make_exchange):
    asked = orjson.dumps({"messages": [{"role": "user", "content": "my SECRET question"}]})
    one = make_exchange("my SECRET answer", request=asked)
    told = Feedback(one.id, "f1", "web", time.time(), "thumb", 0.0, comment="SECRET comment", correction="SECRET fix")
    await pages.add(one, score=0.5, why="because of the SECRET", feedback=[told])
    client = await pages.login("viewer")
    for path in ("/console", "/console/calls", f"/console/calls/{one.id}", "/console/calls?worst=valid_json"):
        assert "SECRET" not in await pages.get(client, path), path
    texts = ("text~SECRET", "request~SECRET", "explanation~SECRET", "not (status=200 or reasoning~x)")
    for where in (*texts, "upstream_id~S", "finish_reason!~S", "unit~S"):
        answer = await client.get("/console/calls", params={"where": where})
        assert answer.status_code == 403, where
        assert "may search in them" in answer.text
    assert (await client.get("/console/calls?words=SECRET")).status_code == 403
    assert (await client.get("/console/calls", params={"where": "finish_reason=stop"})).status_code == 200
    assert "0.5" in await pages.get(client, f"/console/calls/{one.id}")


async def test_a_call_is_labelled(pages, make_exchange):
    one = make_exchange()
    await pages.add(one, score=0.25)
    client, path = await pages.login("labeller"), f"/console/calls/{one.id}"
    data = {"scorer": "valid_json", "verdict": "bad", "comment": "no"}
    assert (await pages.send(client, path, f"{path}/label", data)).status_code == 303
    [label] = await pages.store.read(lambda c: labels_of(c, "valid_json"))
    assert (label.subject_id, label.labeller, label.value, label.comment) == (one.id, "lena", 0.0, "no")
    assert (label.threshold, label.share) == (None, None), "it was not drawn"
    assert (await pages.send(client, path, f"{path}/label", {**data, "verdict": "0.5"})).status_code == 303
    assert [x.value for x in await pages.store.read(lambda c: labels_of(c, "valid_json"))] == [0.5]
    assert (await pages.send(client, path, f"{path}/label", {**data, "verdict": "2"})).status_code == 400
    assert (await pages.send(client, path, f"{path}/label", {**data, "scorer": "other"})).status_code == 404
    viewer = await pages.login("viewer")
    assert (await pages.send(viewer, "/console", f"{path}/label", data)).status_code == 403


async def test_a_call_is_asked_again(pages, make_exchange):
    one = make_exchange("the recorded answer")
    await pages.add(one)
    client, path = await pages.login(), f"/console/calls/{one.id}"
    answer = await pages.send(client, path, f"{path}/replay", {"target": ["chat|local/large", "other|"]})
    assert answer.status_code == 303
    await pages.gateway.until(lambda g: len(g.calls) == 2)
    bodies = [orjson.loads(call.body) for call in pages.gateway.calls]
    assert {body["model"] for body in bodies} == {"chat", "other"}
    assert all(body["messages"] == [{"role": "user", "content": "a question?"}] for body in bodies)
    run = answer.headers["location"]
    for at in (0, 1):
        await pages.get(client, f"{run}/answers/{at}")
    page = await pages.get(client, run)
    assert "the recorded answer" in page
    assert "Hello from the fake upstream." in page
    assert "<del>" in page


async def test_a_request_that_cannot_be_sent_again_is_not(pages, make_exchange):
    cut = make_exchange(truncated=True)
    await pages.add(cut)
    client, path = await pages.login(), f"/console/calls/{cut.id}"
    assert "cannot be sent again" in await pages.get(client, path)
    assert (await pages.send(client, path, f"{path}/replay", {"target": "chat|"})).status_code == 400
    assert pages.gateway.calls == []


async def test_a_call_that_is_not_stored_is_not_found(pages):
    answer = await (await pages.login()).get("/console/calls/none")
    assert answer.status_code == 404
    assert "is in the store" in answer.text


async def test_facets_count_and_lead_to_their_calls(pages, make_exchange):
    made = [make_exchange(alias="chat" if i % 3 else "other", outcome="ok" if i else "timeout") for i in range(9)]
    await pages.add(*made)
    client = await pages.login()
    page = await pages.get(client, "/console/calls?outcome=ok")
    rows = re.findall(r'<a href="([^"]+)"[^>]*><bdi>([^<]+)</bdi></a> <span class="number">(\d+)</span>', page)
    found = {name: (html.unescape(address), int(n)) for address, name, n in rows}
    assert (found["chat"][1], found["other"][1]) == (6, 2)
    assert (found["ok"][1], found["timeout"][1]) == (8, 1), "its own choice does not narrow a facet"
    assert len(ids(await pages.get(client, found["chat"][0]))) == 6
    assert found["ok"][0] == "/console/calls", "a second click takes the choice back"
    assert "Of 9 calls." in page


async def test_question_and_answer_stand_side_by_side_with_chips(pages, make_exchange):
    asked = orjson.dumps({"messages": [{"role": "user", "content": "how far <b>is</b> it?"}]})
    one = make_exchange("not far", request=asked)
    await pages.add(one, results=[("valid_json", 0.0), ("length", 2.0)])
    page = await pages.get(await pages.login(), "/console/calls")
    assert "how far &lt;b&gt;is&lt;/b&gt; it?" in page
    assert "<bdi>valid_json</bdi>&nbsp;<b>0</b> poor" in page
    assert "<bdi>length</bdi>&nbsp;<b>2</b></span>" in page, "a scorer without bounds has no word"
    assert 'data-live="/console/calls/live"' in page
    assert "data-live" not in await pages.get(await pages.login(), "/console/calls?worst=valid_json")


async def test_bad_calls_come_first_and_name_called_tools(pages, ten, make_exchange):
    made = [replace(each, outcome="timeout" if i == 2 else "ok") for i, each in enumerate(ten)]
    for i, one in enumerate(made):
        await pages.add(one, score=0.1 if i == 5 else 0.9)
    tool = {"id": "t", "function": {"name": "look", "arguments": '{"name": "hidden"}'}}
    answer = {"choices": [{"index": 0, "message": {"content": "", "tool_calls": [tool, tool]}}]}
    await pages.add(make_exchange(response=orjson.dumps(answer), received=time.time()), score=0.9)
    page = await pages.get(await pages.login(), "/console/calls")
    assert ids(page)[:2] == [made[5].id, made[2].id], "the newest of them first"
    assert "Not good: 2 of these 11" in page
    assert '<bdi class="mono">look</bdi>' in page
    unread = await pages.get(await pages.login("viewer"), "/console/calls")
    assert ("Not good" in unread, "look</bdi>" in unread) == (True, False)
    assert "Not good" not in await pages.get(await pages.login(), "/console/calls?worst=valid_json")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[]", ()),
        ('[{"id":"a","name":"grep","arguments":"{\\"name\\":\\"x\\"}"},{"id":"b","name":"read"}]', ("grep", "read")),
        ('[{"id":"a","name":"gr\\u00e9p","argu', ("grép",)),
        ('[{"id":"a","name":"cut of', ()),
    ],
)
def test_tools_are_named_from_the_beginning_of_their_json(text, names):
    assert called_tools(text) == names


async def test_a_line_of_a_megabyte_stays_in_its_two_lines(pages, make_exchange):
    asked = orjson.dumps({"messages": [{"role": "user", "content": "x" * 1_000_000}]})
    await pages.add(make_exchange("y" * 1_000_000, request=asked))
    page = await pages.get(await pages.login(), "/console/calls")
    assert len(page) < 60_000
    assert "y" * 100 in page


@pytest.mark.parametrize(
    ("filters", "counted", "whole", "text"),
    [
        ({}, 0, True, "No call yet"),
        ({"since": "1h"}, 0, True, "No call in the last hour"),
        ({}, 12, True, "12 calls, 2 failed"),
        ({"since": "24h"}, 12, True, "12 calls in the last 24 hours, 2 failed"),
        ({"outcome": "cut"}, 12, True, "2 of 12 calls"),
        ({"alias": "chat"}, 40, True, "12 of 40 calls, 2 failed"),
        ({}, 3000, False, "12 of the newest 3\u202f000 calls, 2 failed"),
        ({"words": "a secret"}, 12, True, "Calls that meet the conditions"),
    ],
)
def test_the_list_is_a_sentence(filters, counted, whole, text):
    outcomes = (("ok", 10), ("cut", 2))
    assert headline(CallSearch(**filters), Facets((Facet("outcome", outcomes),), counted, whole)) == text


def test_a_call_is_a_sentence():
    def score(name: str, value: float | None, repeat: int = 0) -> dict:
        return {"scorer": name, "value01": value, "repeat": repeat}

    call = {"alias": "chat", "model": "small", "outcome": "ok", "total_s": 0.9, "scores": []}
    assert call_headline(call) == "chat by small in 900 ms"
    fine = [score("a", 0.9), score("length", None), score("b", 0.1, repeat=1)]
    assert call_headline({**call, "scores": fine}) == "chat by small in 900 ms; no score is poor"
    poor = [score(name, 0.1) for name in "abcd"]
    assert call_headline({**call, "scores": poor}) == "chat by small in 900 ms; poor: a, b and 2 more"
    assert call_headline({**call, "outcome": "upstream_error"}) == "chat by small: upstream error after 900 ms"
    long = {**call, "alias": "x" * 300, "model": "y" * 300, "scores": [score("z" * 99, 0.0) for _ in range(9)]}
    assert len(call_headline(long)) <= 90
