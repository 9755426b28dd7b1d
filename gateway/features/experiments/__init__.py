"""Experiments: plans, pairs, sequences, gates and the verdict."""

from __future__ import annotations

from gateway.features.manifest import ConsolePage, Manifest, Verb

MANIFEST = Manifest(
    name="experiments",
    verbs=(
        Verb("report", "gateway.features.experiments.cli:verbs", 60),
        Verb("ab", "gateway.features.experiments.cli:verbs", 70),
    ),
    pages=(ConsolePage("gateway.features.experiments.page:PAGE", 30),),
    check="gateway.features.experiments.start_stop:config_findings",
    templates=True,
)
