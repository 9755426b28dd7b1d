"""Usage and cost by key, team and user, and the floors from which limits are restored."""

from __future__ import annotations

from gateway.features.manifest import AdminPaths, JsonOutput, Manifest, Verb

MANIFEST = Manifest(
    name="usage",
    hooks="gateway.features.usage.work:limit_hooks",
    verbs=(Verb("usage", "gateway.features.usage.cli:verbs", 50, "Look", on_first_screen=True),),
    outputs=(JsonOutput("usage", admin="usage"),),
    operations=(AdminPaths("gateway.features.usage.operations:OPERATIONS", 30),),
    notices=("gateway.features.usage.notice_source:BudgetNotices",),
)
