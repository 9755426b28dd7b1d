"""Runs: the calls of one task of an agent, scored as a whole, found by their worst score and shown as a timeline."""

from __future__ import annotations

from gateway.features.manifest import ConsolePage, ConsumerTask, Manifest

MANIFEST = Manifest(
    name="runs",
    tasks=(ConsumerTask("runs", "gateway.features.runs.work:run_scoring"),),
    pages=(ConsolePage("gateway.features.runs.page:PAGE", 25),),
    templates=True,
)
