"""Usage and cost by key, team and user, and the floors from which limits are restored."""

from __future__ import annotations

from gateway.features.manifest import AdminPaths, JsonOutput, Manifest, Verb

MANIFEST = Manifest(
    name="usage",
    hooks="gateway.features.usage.work:limit_hooks",
    verbs=(Verb("usage", "gateway.features.usage.cli:verbs", 50),),
    outputs=(JsonOutput("usage", admin="usage"),),
    operations=(AdminPaths("gateway.features.usage.operations:OPERATIONS", 30),),
    notices=("gateway.features.usage.notice_source:BudgetNotices",),
)
