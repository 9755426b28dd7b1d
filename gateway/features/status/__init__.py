"""The state of the whole system, and dead letters."""

from __future__ import annotations

from gateway.features.manifest import ConsolePage, Manifest, Verb

MANIFEST = Manifest(
    name="status",
    verbs=(
        Verb("status", "gateway.features.status.cli:verbs", 190),
        Verb("dead", "gateway.features.status.cli:verbs", 200),
    ),
    pages=(ConsolePage("gateway.features.status.page:PAGE", 70),),
    check="gateway.features.status.room:config_findings",
    templates=True,
)
