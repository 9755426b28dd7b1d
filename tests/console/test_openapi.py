"""The description of the admin API holds: every answer, whatever was asked, is one that it names and describes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2
import jsonschema_rs
import pytest
import yaml
from fixtures.consoles import a_config
from fixtures.examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config.loading import parse
from gateway.console.api import collected_operations
from gateway.console.openapi import describe

GUARDS = {"injection": {"on": "request", "scorer": "prompt_injection"}}
DOCUMENT = describe(collected_operations())
CALLS = [
    (method.upper(), path, operation)
    for path, found in DOCUMENT["paths"].items()
    for method, operation in found.items()
]


@pytest.fixture
async def console(admin: Any, corridor: Any, serving: Any) -> AsyncIterator[Any]:
    """A console whose config has a guard."""
    config = parse(yaml.safe_dump(a_config(guards=GUARDS)))
    async with serving(replace(admin, config=lambda: config), corridor) as running:
        yield running


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with the components it refers to."""
    return {**schema, "components": DOCUMENT["components"]}


def errors(schema: dict[str, Any], value: Any) -> list[str]:
    return [str(each) for each in jsonschema_rs.validator_for(resolved(schema)).iter_errors(value)]


def problems(method: str, path: str, answer: httpx2.Response) -> list[str]:
    """Lists what the description does not say of this answer."""
    responses = DOCUMENT["paths"][path][method.lower()]["responses"]
    described = responses.get(str(answer.status_code))
    if described is None:
        return [f"{answer.status_code} is not described: {answer.text}"]
    return errors(described["content"]["application/json"]["schema"], answer.json())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
NAMES = ["name", "id", "team", "organization", "limits", "models", "allow", "sample", "content", "tags", "expires",
         "disabled", "end_streams", "overlap_s"]  # fmt: skip
PLAUSIBLE = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["a", "b", "static", "evals", ""]), "id": st.sampled_from(["a", "b", "filed", "a/b"]),
        "team": st.sampled_from(["a", "b", "filed", "nobody", None]), "organization": st.sampled_from(["a", None]),
        "limits": st.dictionaries(
            st.sampled_from(["usd_per_day", "requests_per_minute", "concurrency", "time_zone", "on_outage", "other"]),
            st.sampled_from([1, 2.5, 0, -1, None, "UTC", "Mars", "closed", 10**20]), max_size=3,
        ),
        "models": st.sampled_from([None, [], ["chat"], ["none"], "chat"]),
        "allow": st.lists(st.sampled_from(["sample", "target", "passthrough", "all"]), max_size=2),
        "tags": st.lists(st.text(max_size=4), max_size=2),
        "expires": st.sampled_from([None, "2030-01-01T00:00:00Z", "2001-01-01T00:00:00Z", "soon", 5, 1e300]),
        "disabled": st.sampled_from([True, False, None, "maybe"]), "end_streams": st.booleans(),
        "overlap_s": st.sampled_from([0, 60, -1, 10**9]),
    },
)  # fmt: skip
BODIES = PLAUSIBLE | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), JSON, max_size=4) | JSON


def test_the_document_is_complete_and_its_references_resolve():
    assert DOCUMENT["openapi"] == "3.1.0"
    text = json.dumps(DOCUMENT)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in DOCUMENT["components"]["schemas"], name
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema_rs.validator_for(resolved(schema))
    ids = [operation["operationId"] for _, _, operation in CALLS]
    assert len(ids) == len(set(ids)) == sum(len(found.operations) for found in collected_operations())
    assert "digest" not in text


def test_the_document_is_the_same_in_every_process():
    """Names of merge patches came in the order of a set, which differs from one start to the next."""
    patches = [name for name in DOCUMENT["components"]["schemas"] if name.endswith("SettingsPatch")]
    assert len(patches) > 2
    assert patches == sorted(patches)


async def test_the_server_shows_its_description_to_everybody(console):
    async with httpx2.AsyncClient() as client:
        assert (await client.get(f"{console.url}/admin/openapi.json")).json() == DOCUMENT


async def test_usual_answers_are_as_described(console, ramp_on_server):
    ramp = ramp_on_server(console.corridor)
    await ramp.plan_runs()
    await ramp.begins()
    await ramp.says("hold")
    await console.made("organization", id="acme", limits={"usd_per_month": 100, "time_zone": "Europe/Berlin"})
    await console.made("team", id="search", organization="acme", models=["chat"], tags=["x"])
    key = await console.made("key", name="web", team="search", expires="2030-01-01T00:00:00Z", content="metadata")
    ids = {"organizations": "acme", "teams": "search", "keys": key["id"], "experiments": "swap", "guards": "injection"}
    bodies = {"rotate": {"overlap_s": 5}}
    of_keys = [call for call in CALLS if call[1].startswith("/me/")]
    deleting = [call for call in CALLS if call[0] == "DELETE"]
    others = [call for call in CALLS if call[0] not in ("DELETE", "POST") or call[1].endswith("rotate")]
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {key['secret']}"}) as holder:
        for method, path, _ in of_keys:
            answer = await holder.request(method, console.url + path)
            assert answer.status_code == 200, (method, path, answer.text)
            assert problems(method, path, answer) == []
    for method, path, _ in [call for call in (*others, *reversed(deleting)) if call not in of_keys]:
        parts = path.removeprefix("/admin/v1/").split("/")
        url = console.url + path.replace("{id}", ids.get(parts[0], ""))
        body = bodies.get(parts[-1], {"disabled": True}) if method in ("POST", "PATCH") else None
        answer = await console.owner.request(method, url, json=body)
        assert answer.status_code == 200, (method, path, answer.text)
        assert problems(method, path, answer) == []


@pytest.mark.parametrize(("method", "path"), [call[:2] for call in CALLS], ids=lambda each: str(each))
async def test_a_refusal_is_as_described(console, method, path):
    url = console.url + path.replace("{id}", "nothing")
    async with httpx2.AsyncClient() as client:
        assert problems(method, path, await client.request(method, url)) == []
    assert problems(method, path, await console.clients["viewer"].request(method, url)) == []


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_whatever_is_asked_the_answer_is_as_described(console, data):
    await ask_anything(console, data)


@pytest.mark.long
@pytest.mark.timeout(600)
@settings(max_examples=examples(1500), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_whatever_is_asked_for_long_the_answer_is_as_described(console, data):
    await ask_anything(console, data)


async def ask_anything(console: Any, data: Any) -> None:
    """The answer is never HTTP 500, and what the description does not allow is not taken."""
    method, path, operation = data.draw(st.sampled_from(CALLS))
    made = [key["id"] for key in (await console.owner.get("/keys")).json()["data"]]
    name = data.draw(st.sampled_from(["first", "second", "a", "filed", "static", "%00", "é"]))
    name = dict(zip(("first", "second"), made, strict=False)).get(name, name)
    url = console.url + path.replace("{id}", name)
    params = {
        each["name"]: data.draw(st.sampled_from(["", "1", "0", "true", "a", "key_", "\x00"]))
        for each in operation["parameters"] if each["in"] == "query" and data.draw(st.booleans())
    }  # fmt: skip
    body = data.draw(BODIES) if "requestBody" in operation else None
    answer = await console.owner.request(method, url, params=params, json=body)
    assert problems(method, path, answer) == [], (method, url, params, body)
    if answer.status_code in (200, 201) and body not in (None, {}):
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        wrong = [e for e in errors(schema, body) if "is not of type" not in e and "date-time" not in e]
        assert not wrong, "it was taken, though the description does not allow it"
