"""Cascades of decisions that obey certificates: the first target's answer is acted upon where its own probability is in
the certified zone of every question, and else another target answers, or a person. No I/O.

Without a certificate that a consumer has confirmed lately, nothing is acted upon, and the first target is not asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from gateway.config.cascades import ACCEPTED, DECLINED
from gateway.config.config import Config
from gateway.config.routes import ConfiguredRoute
from gateway.core.certificate import CertificateInForce
from gateway.core.decided import answered_bytes
from gateway.proxy.request.call import DECISION_APIS, Call
from gateway.proxy.routing.certified_questions import CertifiedQuestions, ReadQuestion
from gateway.proxy.routing.learned_routes import RouteChoice, ServedRoute

UNCERTIFIED = "uncertified"
"""Label of decisions that came while no certificate was in force."""
_ACT, _ASK = (b"\r\nx-gateway-decision-action: " + action for action in (b"act", b"ask"))


class CertifiedRoute(ServedRoute):
    """A cascade, with the certificates that a consumer has found in force."""

    def __init__(self, configured: ConfiguredRoute, config: Config, clock: Callable[[], float] = time.time) -> None:
        """clock: Unix seconds."""
        super().__init__(configured)
        self.certified = CertifiedQuestions(configured.route.certificates, config, clock)
        first = self.moved
        leaves = ((str(ACCEPTED), first, _ACT), (str(DECLINED), first if self.asks_people else self.control, _ASK))
        self._act, self._ask = (self._acting(leaf, moved=target == first, action=a) for leaf, target, a in leaves)
        self._uncertified = self._acting(UNCERTIFIED, moved=self.asks_people, action=_ASK)
        self._asked = replace(self._first, action=_ASK)

    @property
    def asks_people(self) -> bool:
        """Whether a person decides in the place of a second target."""
        return self.control == self.moved

    @property
    def claims(self) -> Sequence[str]:
        return self.certified.claims

    def certify(self, known: Mapping[str, CertificateInForce], now: float) -> None:
        self.certified.certify(known, now)

    def choose(self, call: Call) -> RouteChoice:
        if call.api not in DECISION_APIS:
            return self._unlike
        return self._asked if self._holding() else self._uncertified

    def decided(self, call: Call, answer: bytes) -> RouteChoice:
        """Whether every answer may be acted upon."""
        body = call.body if call.changes is None else call.body_with({})
        (reading, answered), in_force = answered_bytes(call.api, body, answer), self._holding()
        for question, _, p in answered:
            certificate = None if question is None else in_force.get((reading, question))
            if certificate is None or p is None or p < certificate.from_p:
                return self._ask
        return self._act if answered else self._ask

    def keep(self, before: ServedRoute) -> None:
        if isinstance(before, CertifiedRoute):
            self.certified.keep(before.certified)

    def _holding(self) -> Mapping[ReadQuestion, CertificateInForce]:
        return {} if ACCEPTED in self.returned else self.certified.holding()

    def _acting(self, leaf: str, *, moved: bool, action: bytes) -> RouteChoice:
        return replace(self._choice(leaf, moved=moved), action=action)
