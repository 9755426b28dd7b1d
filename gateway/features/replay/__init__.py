"""Replays: datasets, targets, and the comparison of their answers."""

from __future__ import annotations

from gateway.features.manifest import JsonOutput, Manifest, Verb

MANIFEST = Manifest(
    name="replay",
    verbs=(Verb("replay", "gateway.features.replay.cli:verbs", 80, "Decide"),),
    outputs=(JsonOutput("replay", "gateway.features.replay.report:output_schema"),),
    templates=True,
)
