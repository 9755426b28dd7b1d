"""Guards: rules and scorers that may refuse a request or an answer. The request path is in proxy/guards; this folder
has the process in which scorers judge for it, and the report on their hits and mistakes."""

from __future__ import annotations

from gateway.features.manifest import JsonOutput, Manifest, Verb

MANIFEST = Manifest(
    name="guards",
    verbs=(Verb("guards", "gateway.features.guards.cli:verbs", 115),),
    outputs=(JsonOutput("guards", "gateway.features.guards.report:GuardsOutput"),),
    check="gateway.features.guards.check:findings",
)
