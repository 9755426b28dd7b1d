"""Guards: rules and scorers that may refuse a request or an answer. The request path is in proxy/guards; this folder
has the process in which scorers judge for it, the report and the page on their hits and mistakes, and the drift
alarm."""

from __future__ import annotations

from gateway.features.manifest import ConsolePage, ConsumerTask, JsonOutput, Manifest, Verb

MANIFEST = Manifest(
    name="guards",
    verbs=(Verb("guards", "gateway.features.guards.cli:verbs", 115),),
    outputs=(JsonOutput("guards", "gateway.features.guards.report:GuardsOutput"),),
    pages=(ConsolePage("gateway.features.guards.page:PAGE", 38),),
    tasks=(ConsumerTask("guards", "gateway.features.guards.work:guards_task"),),
    notices=("gateway.features.guards.notice_source:GuardNotices",),
    check="gateway.features.guards.check:findings",
    templates=True,
)
