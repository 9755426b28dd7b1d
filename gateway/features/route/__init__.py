"""Learned routes: which requests may go to the cheaper target, chosen with a guarantee, served by leaf."""

from __future__ import annotations

from gateway.features.manifest import ConsolePage, ConsumerTask, Manifest, Verb

MANIFEST = Manifest(
    name="route",
    verbs=(Verb("route", "gateway.features.route.cli:verbs", 75),),
    pages=(ConsolePage("gateway.features.route.page:PAGE", 35),),
    tasks=(ConsumerTask("routes", "gateway.features.route.work:watch_task"),),
    templates=True,
)
