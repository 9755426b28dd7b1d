"""Learned routes: which requests may go to the cheaper target, chosen with a guarantee, served by leaf."""

from __future__ import annotations

from gateway.features.manifest import Manifest, Verb

MANIFEST = Manifest(
    name="route",
    verbs=(Verb("route", "gateway.features.route.cli:verbs", 75),),
)
