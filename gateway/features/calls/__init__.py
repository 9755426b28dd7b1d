"""Recorded calls: search, export, follow, erase, the playground, and reading from a notebook."""

from __future__ import annotations

from gateway.features.manifest import ConsolePage, JsonOutput, Manifest, Verb

MANIFEST = Manifest(
    name="calls",
    verbs=(
        Verb("samples", "gateway.features.calls.cli:verbs", 40, "Look", on_first_screen=True),
        Verb("export", "gateway.features.calls.cli:verbs", 130, "Look"),
        Verb("follow", "gateway.features.calls.cli:verbs", 140, "Look"),
        Verb("erase", "gateway.features.calls.cli:verbs", 210, "People and money"),
    ),
    outputs=(
        JsonOutput(
            "samples", "gateway.features.calls.outputs:listed_schema", when="without --id and --run", listed=True
        ),
        JsonOutput("samples", "gateway.features.calls.outputs:whole_schema", when="with --id"),
        JsonOutput("erase", "gateway.features.calls.outputs:ErasureOutput"),
    ),
    pages=(
        ConsolePage("gateway.features.calls.page:PAGE", 20),
        ConsolePage("gateway.features.calls.playground:PAGE", 80, "Decide"),
    ),
    templates=True,
)
