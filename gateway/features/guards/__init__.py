"""Guards: rules and scorers that may say no to a request or an answer. The request path is in proxy/guards; here is the
process in which scorers judge for it."""

from __future__ import annotations

from gateway.features.manifest import Manifest

MANIFEST = Manifest(
    name="guards",
    check="gateway.features.guards.check:findings",
)
