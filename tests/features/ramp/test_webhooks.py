"""Webhooks of a ramp over real sockets: signed, each transition once, repeated after failures, given up in the end."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.config.webhook import WebhookConfig
from gateway.core.ramp import RampChange, RampDesign, RampEvent, RampRecord, advanced, rolled_back, started
from gateway.features.notices.receivers import signature
from gateway.features.notices.rows import WebhookDelivery
from gateway.features.notices.sender import RETRY_S
from gateway.features.ramp.webhooks import WebhookSender, sentence_of
from gateway.features.task import TaskWorker
from gateway.scoring.http_client import HttpConnections
from gateway.store.ramp_events import add_ramp_events
from gateway.store.store import Store
from tests.features.ramp.deliveries import deliveries_of

DESIGN = RampDesign((0.1, 1.0), 0.0, 1)


def events(experiment: str = "swap", at: float = 1000.0) -> list[RampEvent]:
    """A ramp that begins, takes a step and is rolled back."""

    def change(n: int, reason: str) -> RampChange:
        return RampChange(at + n, "ada", reason)

    begun = started(experiment, "p" * 16, change(0, "begins"))
    stepped = advanced(begun, DESIGN, change(1, "everything holds"))
    records: list[RampRecord] = [begun, stepped, rolled_back(stepped, change(2, "it failed"), 60.0)]
    before = [None, *((r.state, r.step) for r in records)]
    return [
        RampEvent(f"{round(at)}-{experiment}-{i}", record, known, {"verdict": "ship"})
        for i, (record, known) in enumerate(zip(records, before, strict=False))
    ]


class Clock:
    def __init__(self) -> None:
        self.now = 1010.0

    def __call__(self) -> float:
        return self.now


Sending = Callable[..., WebhookSender]


@pytest.fixture
def clock() -> Clock:
    """A clock that the test sets."""
    return Clock()


@pytest.fixture
async def audit(tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store."""
    async with Store(f"sqlite:///{tmp_path / 'gateway.db'}") as store:
        yield store


@pytest.fixture
async def sending(audit: Store, receiver: Any, webhook_secret: str, clock: Clock) -> AsyncIterator[Sending]:
    """Makes senders of webhooks to `receiver`."""
    async with HttpConnections() as connections:

        def make(name: str = "c1", **fields: Any) -> WebhookSender:
            config = WebhookConfig(**{"url": receiver.url, "secret": webhook_secret, **fields})
            return WebhookSender(TaskWorker(audit, name, clock), connections, {"ops": config})

        yield make


async def add(audit: Store, *found: RampEvent) -> None:
    await audit.run(lambda connection: add_ramp_events(connection, found))


async def only(audit: Store) -> WebhookDelivery:
    """The one delivery there is."""
    (found,) = await audit.look(lambda connection: deliveries_of(connection, "swap"))
    return found


def test_the_signature_is_that_of_the_specification() -> None:
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_the_receiver_sees_each_transition_once_and_signed(audit: Store, sending: Sending, receiver: Any) -> None:
    await add(audit, *events())
    sender = sending()
    for _ in range(4):
        await sender.look()
    seen = sorted(receiver.got, key=lambda each: str(each.id))
    assert [each.body["type"] for each in seen] == ["ramp.shadowing", "ramp.advanced", "ramp.rolled_back"]
    assert len({each.id for each in seen}) == 3
    assert all(each.genuine() for each in seen)
    data = seen[-1].body["data"]
    assert (data["experiment"], data["by"], data["reason"], data["before"]) == ("swap", "ada", "it failed", ["ramp", 0])
    assert data["evidence"] == {"verdict": "ship"}
    assert data["sentence"] == "Rolled back: it failed"


def test_a_step_is_told_by_the_sentence_of_its_evidence() -> None:
    advanced = replace(events()[1], evidence={"headline": "large: right in 90 % instead of 60 %. Ship."})
    assert sentence_of(advanced) == "large: right in 90 % instead of 60 %. Ship."
    promoted = replace(advanced, record=replace(advanced.record, state="promoted"))
    assert sentence_of(promoted) == "Promoted: large, right in 90 % instead of 60 %."
    wordy = replace(events()[1], record=replace(events()[1].record, reason="because " * 40))
    assert len(sentence_of(wordy)) <= 90


async def test_a_failed_delivery_is_repeated_with_its_id_and_body(
    audit: Store, sending: Sending, receiver: Any, clock: Clock
) -> None:
    await add(audit, events()[0])
    receiver.answers = [500, 302]
    sender = sending()
    assert await sender.look() == 1
    assert await sender.look() == 0, "not before its time"
    clock.now += RETRY_S[0]
    assert await sender.look() == 1
    clock.now += RETRY_S[1]
    assert await sender.look() == 1
    assert len({(each.id, each.raw) for each in receiver.got}) == 1
    assert [each.at for each in receiver.got] == [1010, 1015, 1075], "each attempt is signed again"
    assert all(each.genuine() for each in receiver.got)
    found = await only(audit)
    assert (found.state, found.attempts) == ("delivered", 3)


async def test_it_becomes_a_dead_letter_after_the_last_attempt(
    audit: Store, sending: Sending, receiver: Any, clock: Clock, caplog: pytest.LogCaptureFixture, webhook_secret: str
) -> None:
    caplog.set_level(logging.INFO)
    await add(audit, events()[0])
    receiver.answers = [500] * 99
    sender = sending()
    for wait_s in (*RETRY_S, 0.0, 1e6):
        await sender.look()
        clock.now += wait_s
    found = await only(audit)
    assert (found.state, found.attempts, found.error) == ("dead", len(RETRY_S) + 1, "HTTP 500")
    assert len(receiver.got) == len(RETRY_S) + 1
    assert "webhook given up: webhook=ops" in caplog.text
    assert webhook_secret not in caplog.text


async def test_a_receiver_that_is_gone_is_not_asked_again(
    audit: Store, sending: Sending, receiver: Any, clock: Clock
) -> None:
    await add(audit, events()[0])
    receiver.answers = [410]
    sender = sending()
    await sender.look()
    clock.now += 1e6
    assert await sender.look() == 0
    assert (await only(audit)).state == "dead"


async def test_nobody_listening_is_a_failure_that_is_repeated(audit: Store, sending: Sending, receiver: Any) -> None:
    await add(audit, events()[0])
    await sending(url="http://127.0.0.1:9/").look()
    found = await only(audit)
    assert (found.state, found.attempts) == ("pending", 1)
    assert "cannot be reached" in (found.error or "")


async def test_only_one_consumer_sends(audit: Store, sending: Sending, receiver: Any, clock: Clock) -> None:
    one, other = sending("c1"), sending("c2")
    assert await one.look() == 0
    await add(audit, *events())
    assert await other.look() == 0
    assert receiver.got == []
    clock.now += 100  # the first one is dead
    assert await other.look() == 3
    assert len(receiver.got) == 3


async def test_a_receiver_gets_only_the_experiments_it_wants(audit: Store, sending: Sending, receiver: Any) -> None:
    await add(audit, *events("swap"), *events("other"))
    await sending(experiments=("other",)).look()
    assert {each.body["data"]["experiment"] for each in receiver.got} == {"other"}


async def test_a_new_receiver_does_not_get_what_is_long_past(
    audit: Store, sending: Sending, receiver: Any, clock: Clock
) -> None:
    await add(audit, *events(at=1000.0))
    clock.now = 1000.0 + 5000
    sender = sending()
    assert await sender.look() == 0
    await add(audit, events("other", at=clock.now)[0])
    assert await sender.look() == 1
    clock.now += 1
    assert await sender.look() == 0, "nor once it has had one"


async def test_events_without_a_running_consumer_are_sent_later(
    audit: Store, sending: Sending, receiver: Any, clock: Clock
) -> None:
    await add(audit, events()[0])
    await sending().look()
    await add(audit, *events()[1:])
    clock.now += 86_400
    assert await sending("c2").look() == 2
    assert len(receiver.got) == 3
