"""The routes of a config in force: those that obey certificates, and what the others need not load."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from gateway.config.certified import claim_digest
from gateway.config.loading import parse
from gateway.core.certificate import CertificateInForce
from gateway.core.exchange import Target
from gateway.proxy.routing.certified_routes import CertifiedRoute
from gateway.proxy.routing.served_routes import ServedRoutes

CONFIG = """
open: true
upstreams: {up: {kind: fake}}
models: {triage: {targets: [{route: triage}]}}
scorers: {refund: {use: decided, target: up/small, question: {predicate: "Money back?"}}}
decisions: {certificates: {refund: {scorer: refund}}}
cascades:
  triage: {model: triage, first: {upstream: up, model: small}, accept: certificate refund, then: ask}
"""


def in_force(routes: ServedRoutes) -> list[float]:
    route = routes.by_name["triage"]
    assert isinstance(route, CertifiedRoute)
    return [held.from_p for held in route.certified.in_force.values()]


def test_a_reload_keeps_the_certificates_of_the_same_claim() -> None:
    config = parse(CONFIG)
    routes, claim = ServedRoutes(config), claim_digest(config, "refund")
    assert routes.claims == (claim,)
    routes.certify({claim: CertificateInForce(0.9, 1_000.0)}, 1_001.0)
    same, other = ServedRoutes(config), ServedRoutes(parse(CONFIG.replace("Money back?", "Money?")))
    for after in (same, other):
        after.keep(routes)
    assert (in_force(routes), in_force(same), in_force(other)) == ([0.9], [0.9], [])
    assert set(routes.targets()) == {Target("up", "small")}


@pytest.mark.parametrize("claim", ["", "0123456789abcdef"])
def test_a_certificate_of_another_claim_is_not_taken_over(claim: str) -> None:
    routes = ServedRoutes(parse(CONFIG))
    routes.certify({claim: CertificateInForce(0.9, 1_000.0)}, 1_001.0)
    assert in_force(routes) == []


def test_a_gateway_without_certificates_imports_nothing_of_them() -> None:
    code = (
        "import sys, gateway.proxy.serve\n"
        "from gateway.config.loading import parse\n"
        "from gateway.proxy.routing.served_routes import ServedRoutes\n"
        "ServedRoutes(parse('open: true\\nupstreams: {u: {kind: fake}}\\n'\n"
        "    'models: {chat: {targets: [{upstream: u, model: m}]}}'))\n"
        "print([name for name in sys.modules if 'certif' in name or name.endswith('.decided')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert [name for name in ast.literal_eval(done.stdout) if name.startswith("gateway.")] == []
