"""The learned routes and cascades of one config in force."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from gateway.config.config import Config
from gateway.config.routes import ConfiguredRoute
from gateway.core.exchange import Target
from gateway.proxy.routing.learned_routes import ServedRoute

if TYPE_CHECKING:
    from gateway.core.certificate import CertificateInForce


def _served(configured: ConfiguredRoute, config: Config) -> ServedRoute:
    if not configured.route.certificates:
        return ServedRoute(configured)
    from gateway.proxy.routing.certified_routes import CertifiedRoute

    return CertifiedRoute(configured, config)


class ServedRoutes:
    """The learned routes of one config, by name."""

    def __init__(self, config: Config) -> None:
        self.by_name: Mapping[str, ServedRoute] = {name: _served(each, config) for name, each in config.routes.items()}
        self.claims: tuple[str, ...] = tuple(digest for route in self.by_name.values() for digest in route.claims)
        """The digests of certificates that routes obey."""

    def of(self, target: Target) -> ServedRoute | None:
        """The route that this target of a plan stands for; None if the config has no such route, or another version."""
        route = self.by_name.get(target.model)
        return route if route is not None and route.learned.target == target else None

    def targets(self) -> Iterable[Target]:
        return (target for each in self.by_name.values() for target in (each.control, each.moved))

    def keep(self, before: ServedRoutes) -> None:
        """Keeps the decisions of unchanged routes under the previous config."""
        for name, route in self.by_name.items():
            old = before.by_name.get(name)
            if old is not None and old.learned.digest == route.learned.digest:
                route.keep(old)

    def certify(self, known: Mapping[str, CertificateInForce], now: float) -> None:
        """known: certificates in force, by the digests of their claims. now: Unix seconds."""
        for route in self.by_name.values():
            if route.claims:
                route.certify(known, now)

    def take_back(self, leaves: Mapping[str, frozenset[int]]) -> None:
        """leaves: those taken back, by the digest of their route."""
        for route in self.by_name.values():
            route.take_back(leaves.get(route.learned.digest, frozenset()))
