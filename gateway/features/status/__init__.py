"""The state of the whole system, and dead letters."""

from __future__ import annotations

from gateway.features.manifest import ConfigCheck, ConsolePage, JsonOutput, Manifest, Verb

MANIFEST = Manifest(
    name="status",
    verbs=(
        Verb("status", "gateway.features.status.cli:verbs", 39, "Look", on_first_screen=True),
        Verb("dead", "gateway.features.status.cli:verbs", 200, "Look"),
    ),
    outputs=(
        JsonOutput("status", "gateway.features.status.report:Status"),
        JsonOutput("dead list", "gateway.features.status.dead_letters:DeadLettersOutput"),
        JsonOutput("dead show", "gateway.features.status.dead_letters:WholeDeadLetterOutput"),
    ),
    pages=(ConsolePage("gateway.features.status.page:PAGE", 70),),
    check=ConfigCheck("gateway.features.status.capacity:config_findings", reads_store=True),
    templates=True,
    notices=(
        "gateway.features.status.notice_source:ConfigNotices",
        "gateway.features.status.notice_source:KeyNotices",
        "gateway.features.status.notice_source:ConsumerNotices",
        "gateway.features.status.notice_source:WorkNotices",
    ),
)
