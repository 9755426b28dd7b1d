"""Records without their secrets: whose, with which rules, between calls or on a thread, and closed when it fails."""

from __future__ import annotations

import asyncio
import re
import runpy
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config.loading import parse
from gateway.config.privacy import RedactionConfig
from gateway.core.completion import completion_of
from gateway.core.exchange import Attempt, Exchange, Feedback, Target, new_id
from gateway.proxy.recording.redaction.redactor import (
    LARGE,
    RedactedRecord,
    Redactor,
    anonymous,
    redacted,
    redactors_by_caller,
)

PLANTED = runpy.run_path(str(Path(__file__).parent / "planted.py"))
ALL, A = PLANTED["ALL"], PLANTED["A"]
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


Run = Callable[[Redactor, Any], RedactedRecord]


@pytest.fixture
def run() -> Run:
    """Runs all slices of the redaction of one record at once."""
    return _run


def _run(redactor: Redactor, record: Any) -> RedactedRecord:
    slices = redactor.slices(record)
    while True:
        try:
            next(slices)
        except StopIteration as stop:
            done: RedactedRecord = stop.value
            return done


@pytest.fixture
def exchange() -> Callable[..., Exchange]:
    """Makes an exchange from its request and response; further fields by name."""

    def make(request: bytes = b"{}", response: bytes = b"{}", **fields: Any) -> Exchange:
        plain: dict[str, Any] = {
            "id": new_id(), "received": 1.0, "caller": "web", "api": "chat", "alias": "chat",
            "target": Target("u", "m"), "stream": False, "request": request, "response": response, "status": 200,
            "outcome": "ok", "total_s": 1.0, "unit": new_id(), "u": 0.5, "pi": 1.0, "stratum": "default",
            "incarnation": "i", "seq": 1,
        }  # fmt: skip
        return Exchange(**{**plain, **fields})

    return make


@pytest.fixture
def redactor() -> Redactor:
    """A redactor for `content: redacted` with the default patterns."""
    return Redactor("redacted", RedactionConfig())


def sse(*parts: str, api: str = "chat") -> bytes:
    events = [{"choices": [{"index": 0, "delta": {"content": p}}]} for p in parts]
    return b"".join(b"data: %b\n\n" % orjson.dumps(e) for e in events) + b"data: [DONE]\n\n"


def asked(text: object, **more: object) -> bytes:
    return orjson.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **more})


@pytest.mark.parametrize(("rule", "secret"), ALL)
def test_a_secret_split_anywhere_is_found_when_assembled(rule, secret, redactor, run, exchange):
    for at in range(len(secret) + 1):
        parts = ("It is ", secret[:at], secret[at:], " indeed")
        done = run(redactor, exchange(response=sse(*parts), stream=True))
        assert completion_of(done.record).text == f"It is [{rule}] indeed", at
        assert done.counts == {rule: 1}
        assert done.record.form == "assembled"


@SHARED
@given(data=st.data(), pair=st.sampled_from(ALL))
def test_any_split_into_pieces_gives_the_same(data, pair, redactor, run, exchange):
    rule, secret = pair
    text = f"first {secret} then"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=12)))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    done = run(redactor, exchange(response=sse(*parts), stream=True))
    assert completion_of(done.record).text == f"first [{rule}] then"


@pytest.mark.parametrize(("rule", "secret"), ALL)
def test_every_place_of_a_request_is_searched(rule, secret, redactor, run, exchange):
    inner = orjson.dumps({"to": secret, "deep": orjson.dumps([f"x\n{secret}"]).decode()}).decode()
    body = asked(
        [
            {"type": "text", "text": f"a {secret}"},
            {"type": "image_url", "image_url": {"url": f"https://x.example/?q={secret}"}},
        ],
        metadata={"note": secret, secret: "key"},
        user=secret,
        tools=[{"type": "function", "function": {"name": "f", "description": f"see {secret}"}}],
        nested=[[[{"x": [f"{secret}!"]}]]],
        arguments=inner,
        broken=inner[:-1],
    )
    done = run(redactor, exchange(body))
    output = done.record.request.decode()
    assert secret not in output.replace("\\n", "\n").replace("\\", "")
    assert secret not in str(orjson.loads(output))
    assert orjson.loads(output)["arguments"] != inner
    assert orjson.loads(orjson.loads(output)["arguments"])["to"] == f"[{rule}]"
    assert done.counts[rule] >= 9


@pytest.mark.parametrize("secret", ["ada@example.org", "sk-" + A[:40]])
def test_escapes_hide_nothing_even_outside_of_json(secret, redactor, run, exchange):
    hidden = "".join(f"\\u{ord(c):04x}" for c in secret)
    for text in (hidden, f'{{"a": "{hidden}', f'"\\n{secret}', f"\\\\n{secret}", hidden.replace("\\", "\\\\")):
        output = orjson.loads(run(redactor, exchange(asked(text))).record.request)["messages"][0]["content"]
        assert "[email]" in output or "[key]" in output, text


def test_a_request_in_which_nothing_is_found_keeps_its_bytes(redactor, run, exchange):
    body = b'{"model" : "m", "n": 0.70, "big": 123456789012345678901234567890, "messages":[{"content":"hi\\u0020"}]}'
    assert run(redactor, exchange(body)).record.request == body


def test_tool_calls_reasoning_refusals_and_errors_are_searched(redactor, run, exchange):
    mail = "ada@example.org"
    message = {
        "content": None, "refusal": f"not {mail}", "reasoning_content": f"think {mail}",
        "tool_calls": [{"id": "call_1", "function": {"name": "send", "arguments": f'{{"to": "{mail}", "n": 1}}'}}],
    }  # fmt: skip
    answer = {"choices": [{"index": 0, "message": message}], "error": {"message": f"bad {mail}"}, "id": "chatcmpl-1"}
    done = run(redactor, exchange(response=orjson.dumps(answer)))
    output = completion_of(done.record)
    assert (output.refusal, output.reasoning, output.error) == ("not [email]", "think [email]", "bad [email]")
    assert orjson.loads(output.tool_calls[0].arguments) == {"to": "[email]", "n": 1}
    assert (output.tool_calls[0].name, output.upstream_id) == ("send", "chatcmpl-1")


@pytest.mark.parametrize(("rule", "secret"), ALL)
def test_a_secret_divided_between_content_parts_is_found(rule, secret, redactor, run, exchange):
    for at in range(1, len(secret)):
        parts = [{"type": "text", "text": text} for text in ("It is ", secret[:at], secret[at:], " indeed")]
        parts.insert(2, {"type": "image_url", "image_url": {"url": "https://x.example/"}})
        done = run(redactor, exchange(asked(parts)))
        kept = [p["text"] for p in orjson.loads(done.record.request)["messages"][0]["content"] if "text" in p]
        assert "".join(kept) == f"It is [{rule}] indeed", (at, kept)
        assert done.counts[rule] >= 1


@SHARED
@given(data=st.data(), pair=st.sampled_from(ALL))
def test_any_division_into_content_parts_gives_the_same(data, pair, redactor, run, exchange):
    rule, secret = pair
    text = f"first {secret} then"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=12)))
    parts = [{"text": text[a:b]} for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    kept = orjson.loads(run(redactor, exchange(asked(parts))).record.request)["messages"][0]["content"]
    assert "".join(p["text"] for p in kept) == f"first [{rule}] then"


def test_parts_that_only_follow_each_other_are_left(redactor, run, exchange):
    body = asked([{"text": "write to ada@example.org"}, {"text": "Then rest."}, {"text": "20"}, {"text": "30"}])
    kept = orjson.loads(run(redactor, exchange(body)).record.request)["messages"][0]["content"]
    assert [p["text"] for p in kept] == ["write to [email]", "Then rest.", "20", "30"]


def test_a_number_in_two_parts_has_one_pseudonym(run, exchange):
    redactor = Redactor("redacted", RedactionConfig(pseudonyms=True))
    parts = [{"text": "4111 1111"}, {"text": " 1111 1111 and 5500-0000-0000-0004"}, {"text": ", 4111 1111 1111 1111"}]
    done = run(redactor, exchange(asked(parts)))
    kept = [p["text"] for p in orjson.loads(done.record.request)["messages"][0]["content"]]
    assert kept == ["[card-1]", " and [card-2]", ", [card-1]"]
    assert done.counts == {"card": 3}


@pytest.mark.parametrize("number", ["4111111111111111", "4111111111111111.0", "4.111111111111111e15"])
def test_a_card_is_found_as_any_json_number(number, redactor, run, exchange):
    done = run(redactor, exchange(b'{"model":"m","card":%b,"n":4111111111111112.0}' % number.encode()))
    assert orjson.loads(done.record.request) == {"model": "m", "card": "[card]", "n": 4111111111111112.0}


@pytest.mark.parametrize("secret", ["ada@example.org", "4111 1111 1111 1111", "sk-" + A[:40]])
@pytest.mark.parametrize("place", ["call", "finish", "model", "id", "upstream_id"])
def test_names_from_an_upstream_are_searched_too(secret, place, redactor, run, exchange):
    named = dict.fromkeys(("call", "finish", "model", "id"), "plain") | {place: secret}
    message = {"content": "", "tool_calls": [{"id": named["call"], "function": {"name": "f", "arguments": "{}"}}]}
    choice = {"index": 0, "message": message, "finish_reason": named["finish"]}
    answer = {"id": named["id"], "model": named["model"], "choices": [choice]}
    given = secret if place == "upstream_id" else None
    done = run(redactor, exchange(response=orjson.dumps(answer), upstream_id=given))
    output = completion_of(done.record)
    values = {"call": output.tool_calls[0].id, "finish": output.finish_reason, "model": output.model}
    values |= {"id": output.upstream_id, "upstream_id": done.record.upstream_id}
    assert values.pop(place) in ("[email]", "[card]", "[key]")
    assert set(values.values()) <= {"plain", None}


def test_ids_of_clients_and_what_attempts_say_are_searched(redactor, run, exchange):
    attempt = Attempt(Target("u", "m"), 400, "HTTP 400: no user ada@example.org", 0.1)
    sent = {"client_id": "ada@example.org", "reference": "Write to ada@example.org."}
    done = run(redactor, exchange(unit="chat-of-ada@example.org", attempts=(attempt,), **sent))
    assert (done.record.client_id, done.record.reference) == ("[email]", "Write to [email].")
    assert re.fullmatch("[0-9a-f]{16}", done.record.unit)
    assert done.record.attempts[0].failure == "HTTP 400: no user [email]"


def test_an_own_id_stays_and_a_clients_is_always_the_same():
    ours = new_id()
    assert anonymous(ours) == ours
    assert anonymous("conversation 7") == anonymous("conversation 7") != anonymous("conversation 8")


@pytest.mark.parametrize("fields", [{"truncated": True}, {"outcome": "client_gone"}, {"outcome": "cut"}])
def test_an_answer_cut_within_a_secret_ends_before_it(fields, redactor, run, exchange):
    for text in ("It is sk-" + A[:10], "It is 4111 1111 11", "It is ada@exam", "It is DE89 3704 00"):
        done = run(redactor, exchange(response=sse(text), stream=True, **fields))
        assert completion_of(done.record).text == "It is [cut]"
    done = run(redactor, exchange(response=sse("It is so. "), stream=True, **fields))
    assert completion_of(done.record).text == "It is so. "


def test_a_request_that_was_cut_is_searched_as_a_text(redactor, run, exchange):
    body = asked(f"mail ada@example.org, \n\nkey sk-{A[:50]}")
    for end in range(60, len(body)):
        done = run(redactor, exchange(body[:end], truncated=True))
        assert b"ada@e" not in done.record.request
        assert A[:12].encode() not in done.record.request, end


def test_the_same_value_has_the_same_number_where_that_is_wanted(run, exchange):
    redactor = Redactor("redacted", RedactionConfig(pseudonyms=True))
    body = asked("a@x.example wrote b@x.example; a@x.example waits")
    done = run(redactor, exchange(body, sse("to b@x.example, c@x.example"), stream=True))
    assert "[email-1] wrote [email-2]; [email-1] waits" in done.record.request.decode()
    assert completion_of(done.record).text == "to [email-2], [email-3]"


def test_only_the_rules_that_are_named_are_applied(run, exchange):
    redactor = Redactor("redacted", RedactionConfig(rules=("card",)))
    done = run(redactor, exchange(asked("a@x.example paid with 4111 1111 1111 1111")))
    assert b"a@x.example paid with [card]" in done.record.request


def test_patterns_of_ones_own_are_replaced_by_what_they_say(run, exchange):
    patterns = [
        {"name": "ticket", "regex": r"TCK-\d{4}", "replace": "[a ticket]"},
        {"name": "room", "regex": "R[0-9]+"},
    ]
    redactor = Redactor("redacted", RedactionConfig.model_validate({"patterns": patterns}))
    done = run(redactor, exchange(asked("TCK-1234 in R12, von Zoë für TCK-9999"), sse("TC", "K-12", "34"), stream=True))
    assert "[a ticket] in [room], von Zoë für [a ticket]" in done.record.request.decode()
    assert completion_of(done.record).text == "[a ticket]"
    assert done.counts == {"ticket": 3, "room": 1}


def test_metadata_keeps_nothing_that_anybody_wrote(run, exchange):
    redactor = Redactor("metadata", RedactionConfig())
    attempt = Attempt(Target("u", "m"), 400, "HTTP 400: no user ada", 0.1)
    sent = {"client_id": "ada", "reference": "ada"}
    secretive = exchange(asked("x"), sse("y"), unit="ada", attempts=(attempt,), experiment="e", **sent)
    done = run(redactor, secretive).record
    assert (done.request, done.response, done.client_id, done.reference) == (b"{}", b"", None, None)
    assert done.unit == anonymous("ada") != "ada"
    assert done.attempts[0].failure == "HTTP 400"
    assert (done.id, done.total_s, done.experiment, done.pi) == (secretive.id, 1.0, "e", 1.0)


def test_feedback_is_redacted_too(redactor, run):
    output = Feedback(
        "i", "f", "web", 1.0, "n", 1.0, "by ada@example.org", "call +44 20 7946 0958", "4111 1111 1111 1111"
    )
    done = run(redactor, output).record
    assert (done.label, done.comment, done.correction) == ("by [email]", "call [phone]", "[card]")
    bare = run(Redactor("metadata", RedactionConfig()), output).record
    assert (bare.value, bare.label, bare.comment, bare.correction) == (1.0, None, None, None)


@SHARED
@given(body=st.binary(max_size=200), response=st.binary(max_size=200))
def test_any_bytes_at_all_are_taken(body, response, redactor, run, exchange):
    for record in (exchange(body, response), exchange(b'{"a":"' + body, b"data: " + response + b"\n\n", stream=True)):
        assert run(redactor, record).record.form == "assembled"


BASE = {"upstreams": {"a": {"kind": "fake"}}, "models": {"m": {"targets": [{"upstream": "a", "model": "m"}]}}}


def table(before=None, **sections):
    found = redactors_by_caller(parse(yaml.safe_dump({**BASE, **sections})), before or {})
    return {caller: redactor.content for caller, redactor in found.items()}


def key(name: str, **fields: str) -> dict[str, str]:
    return {"name": name, "sha256": sha256(name.encode()).hexdigest(), **fields}


def test_without_the_section_only_keys_that_say_so_are_redacted():
    assert table(keys=[key("a"), key("b", content="redacted"), key("c", content="metadata")]) == {
        "b": "redacted", "c": "metadata"}  # fmt: skip
    assert table(open=True) == {}


def test_the_section_redacts_keys_without_content():
    assert table(open=True, redaction={}, keys=[key("a"), key("b", content="full")]) == {
        "a": "redacted",
        "open": "redacted",
    }
    assert table(redaction={"default": "metadata"}, keys=[key("a"), key("b", content="redacted")]) == {
        "a": "metadata", "b": "redacted"}  # fmt: skip


def test_a_removed_key_keeps_its_redactor():
    before = redactors_by_caller(
        parse(yaml.safe_dump({**BASE, "keys": [key("a", content="redacted"), key("b", content="redacted")]})), {}
    )
    assert table(before, keys=[key("b", content="full")]) == {"a": "redacted"}


def body(text: str) -> bytes:
    return orjson.dumps({"messages": [{"role": "user", "content": text}]})


async def longest_wait(work) -> tuple[object, float]:
    """The result of the work, and the most time that the loop's thread was at work between two turns."""
    longest, last = 0.0, time.thread_time()
    task = asyncio.get_running_loop().create_task(work)
    while not task.done():
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, last = max(longest, now - last), now
    return task.result(), longest


@pytest.mark.parametrize("size", [1000, 200_000, 900_000])
async def test_the_event_loop_runs_during_a_redaction(size, redactor, exchange):
    text = "so they write: a@b.example, and more. " * (size // 40)
    record = exchange(body(text))
    (done, failure), waited = await longest_wait(redacted(redactor, record, len(record.request)))
    assert failure is None
    assert b"a@b" not in done.record.request
    assert waited < 0.1


async def test_a_record_that_takes_too_long_loses_its_content(exchange):
    redactor = Redactor("redacted", RedactionConfig(deadline_s=1e-9))
    for size in (10, LARGE + 1):
        done, failure = await redacted(redactor, exchange(body("a@b.example " * 10)), size)
        assert failure == "timeout"
        assert (done.record.request, done.record.response) == (b"{}", b"")


async def test_a_failed_redaction_leaves_no_content(exchange, redactor, caplog, monkeypatch):
    def slices(record):
        yield
        raise ValueError(str(record))

    monkeypatch.setattr(redactor, "slices", slices)
    done, failure = await redacted(redactor, exchange(body("a@b.example")), 10)
    assert failure == "error"
    assert (done.record.request, done.record.response) == (b"{}", b"")
    assert "ValueError" in caplog.text
    assert "a@b" not in caplog.text


async def test_json_too_deep_to_be_followed_is_not_kept(redactor, exchange):
    deep = b'{"a":' * 1000 + b'"a@b.example"' + b"}" * 1000
    done, _ = await redacted(redactor, exchange(deep), 10)
    assert b"a@b" not in done.record.request
