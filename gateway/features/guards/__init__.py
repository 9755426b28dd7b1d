"""Guards: rules and scorers that may refuse a request or an answer. The request path is in proxy/guards; this folder
has the process in which scorers judge for it, the report and the page on their hits and mistakes, and the drift
alarm."""

from __future__ import annotations

from gateway.features.manifest import AdminPaths, ConfigCheck, ConsolePage, ConsumerTask, JsonOutput, Manifest, Verb

MANIFEST = Manifest(
    name="guards",
    hooks="gateway.features.guards.metrics:guard_hooks",
    verbs=(
        Verb("guards", "gateway.features.guards.cli:verbs", 115, "Look"),
        Verb("guard", "gateway.features.guards.cli:verbs", 116, "Decide"),
    ),
    outputs=(
        JsonOutput("guards", "gateway.features.guards.report:GuardsOutput"),
        JsonOutput("guard status", "gateway.features.guards.ramp.commands:GuardRampsOutput"),
        JsonOutput("guard history", admin="ramp_change", listed=True),
    ),
    operations=(AdminPaths("gateway.features.guards.operations:OPERATIONS", 25),),
    pages=(ConsolePage("gateway.features.guards.page:PAGE", 38),),
    tasks=(
        ConsumerTask("guards", "gateway.features.guards.work:guards_task"),
        ConsumerTask("guard ramps", "gateway.features.guards.ramp.work:guard_ramps_task"),
    ),
    notices=("gateway.features.guards.notice_source:GuardNotices",),
    check=ConfigCheck("gateway.features.guards.check:findings", section="guards"),
    templates=True,
)
