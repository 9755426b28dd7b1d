"""Runs: the calls of one task of an agent, scored as a whole, found by their worst score and shown as a timeline."""

from __future__ import annotations

from gateway.features.manifest import ConsolePage, ConsumerTask, JsonOutput, Manifest, Verb

MANIFEST = Manifest(
    name="runs",
    hooks="gateway.features.runs.metrics:run_hooks",
    verbs=(Verb("runs", "gateway.features.runs.cli:verbs", 41, "Look"),),
    outputs=(
        JsonOutput("runs", "gateway.features.runs.outputs:listed_schema", listed=True),
        JsonOutput("runs", "gateway.features.runs.outputs:CeilingOutput", when="with --live", listed=True),
        JsonOutput("samples", "gateway.features.runs.outputs:run_schema", when="with --run", listed=True),
    ),
    tasks=(ConsumerTask("runs", "gateway.features.runs.work:run_scoring"),),
    notices=("gateway.features.runs.notice_source:RunNotices",),
    pages=(ConsolePage("gateway.features.runs.page:PAGE", 25),),
    templates=True,
)
