"""Traces that other programs recorded: OpenTelemetry, Langfuse and LiteLLM, read into calls of `role: imported`."""

from __future__ import annotations

from gateway.core.extras import Extra
from gateway.features.manifest import ConsumerTask, JsonOutput, Manifest, Verb

MANIFEST = Manifest(
    name="traces",
    verbs=(Verb("ingest", "gateway.features.traces.cli:verbs", 45, "Look"),),
    outputs=(JsonOutput("ingest", "gateway.features.traces.cli:IngestOutput"),),
    tasks=(ConsumerTask("ingest", "gateway.features.traces.work:receive_traces"),),
    extras=(Extra("otel", "OpenTelemetry's message types", ("opentelemetry.proto",), "ingest"),),
)
