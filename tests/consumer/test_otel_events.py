"""What scorers said reaches a real collector, each below the span of its call; and no word of an answer does."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import Any

import yaml

from gateway.config.types import OtelConfig
from gateway.consumer.consumer import Consumer
from gateway.consumer.otel_events import NAME, ScoreEvents


async def scored(room: Any, url: str, *sent: Any) -> None:
    """These are scored by a consumer that tells this collector."""
    await room.send(*sent)
    events = ScoreEvents(OtelConfig(endpoint=url))
    async with room.opened() as (_, context):
        consumer = Consumer(dataclasses.replace(context, events=events), "c1")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run())
            await room.until_read()
            consumer.stop()
    await asyncio.to_thread(events.close)


async def test_each_opinion_is_an_event_below_the_span_of_its_call(
    room: Any, exchange: Any, collector: Any, otlp: Any
) -> None:
    sent = exchange("0.25", experiment="swap", plan="p", arm="candidate")
    await scored(room, collector.url, sent)
    (event,) = collector.events
    attributes = otlp.attributes(event)
    assert event.event_name == NAME == "gen_ai.evaluation.result"
    assert attributes["gen_ai.evaluation.name"] == "stated"
    assert attributes["gen_ai.evaluation.score.value"] == 0.25
    assert attributes["gen_ai.evaluation.score.label"] == "number"
    assert attributes["gen_ai.response.id"] == sent.id
    assert (attributes["gateway.experiment"], attributes["gateway.arm"]) == ("swap", "candidate")
    assert event.trace_id.hex() == sent.id.replace("-", "")
    assert event.span_id.hex() == sent.id.replace("-", "")[16:]


async def test_what_was_not_scored_says_why_and_has_no_value(
    room: Any, exchange: Any, collector: Any, otlp: Any
) -> None:
    await scored(room, collector.url, exchange("n/a"), exchange("no number"))
    attributes = {otlp.attributes(e)["gateway.evaluation.status"]: otlp.attributes(e) for e in collector.events}
    assert set(attributes) == {"not_applicable", "error"}
    assert attributes["error"]["error.type"] == "error"
    assert "error.type" not in attributes["not_applicable"]
    assert not any("gen_ai.evaluation.score.value" in each for each in attributes.values())
    assert "no number" not in str(collector.events)


async def test_the_program_tells_the_collector_that_its_config_names(
    exchange: Any, room: Any, collector: Any, otlp: Any, servers: Any, tmp_path: Path
) -> None:
    sent = exchange("plain words")
    await room.send(sent)
    target = {"upstream": "local", "model": "small"}
    config = {
        "open": True, "upstreams": {"local": {"kind": "vllm", "base_url": "http://127.0.0.1:9/v1"}},
        "models": {"chat": {"targets": [target]}}, "scorers": {"length": {}}, "otel": {"endpoint": collector.url},
        "stream": {"url": room.stream_url, "name": room.stream_name},
    }  # fmt: skip
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "gateway", "evaluate", "--config", str(path)]
    command += ["--metrics-port", str(servers.free_ports(1)[0])]
    process = await asyncio.create_subprocess_exec(
        *command, "--data", str(tmp_path), env={**os.environ, "OTEL_BLRP_SCHEDULE_DELAY": "50"}
    )
    await room.until(lambda: collector.events)
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    (event,) = collector.events
    assert otlp.attributes(event)["gen_ai.response.id"] == sent.id
    assert otlp.attributes(event)["gen_ai.evaluation.name"] == "length"
