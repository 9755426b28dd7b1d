"""Comparisons of scores that other programs wrote to files: pairing by id, and one verdict for each pair of models."""

from __future__ import annotations

from gateway.features.manifest import JsonOutput, Manifest, Verb

MANIFEST = Manifest(
    name="compare",
    verbs=(Verb("compare", "gateway.features.compare.cli:verbs", 85, "Decide", on_first_screen=True),),
    outputs=(JsonOutput("compare", "gateway.features.compare.report:ScoreComparisonOutput"),),
    templates=True,
)
