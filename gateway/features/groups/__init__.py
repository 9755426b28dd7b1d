"""Failures in groups: the kinds of calls that a scorer rates as bad, in rules that a person can read."""

from __future__ import annotations

from gateway.features.manifest import ConsolePage, JsonOutput, Manifest, Verb

MANIFEST = Manifest(
    name="groups",
    verbs=(Verb("groups", "gateway.features.groups.cli:verbs", 46, "Look"),),
    outputs=(JsonOutput("groups", "gateway.features.groups.report:ScorerGroupsOutput", listed=True),),
    pages=(ConsolePage("gateway.features.groups.page:PAGE", 22),),
    templates=True,
)
