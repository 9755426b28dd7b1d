"""Learned routes: which requests may go to the cheaper target, chosen with a guarantee, served by leaf."""

from __future__ import annotations

from gateway.features.manifest import ConsolePage, ConsumerTask, JsonOutput, Manifest, Verb

MANIFEST = Manifest(
    name="route",
    verbs=(Verb("route", "gateway.features.route.cli:verbs", 75, "Decide"),),
    outputs=(
        JsonOutput("route except", "gateway.features.route.report:RouteFileOutput"),
        JsonOutput("route learn", "gateway.features.route.report:LearnedChoiceOutput"),
        JsonOutput("route show", "gateway.features.route.report:RouteFileOutput"),
        JsonOutput("route verify", "gateway.features.route.report:RouteVerificationOutput"),
    ),
    pages=(ConsolePage("gateway.features.route.page:PAGE", 35, "Decide"),),
    tasks=(ConsumerTask("routes", "gateway.features.route.work:watch_task"),),
    templates=True,
)
