"""Keys, teams and organizations: the directory, its publication to gateways, and the admin API's operations."""

from __future__ import annotations

from gateway.features.manifest import AdminPaths, ConsolePage, Manifest, Verb

MANIFEST = Manifest(
    name="keys",
    verbs=(
        Verb("keys", "gateway.features.keys.cli:verbs", 220),
        Verb("teams", "gateway.features.keys.cli:verbs", 221),
        Verb("organizations", "gateway.features.keys.cli:verbs", 222),
    ),
    pages=(ConsolePage("gateway.features.keys.page:PAGE", 60),),
    templates=True,
    operations=(AdminPaths("gateway.features.keys.operations:OPERATIONS", 10),),
)
