"""Cascades of decisions that obey certificates: the first target's answer is acted upon where its own probability is in
the certified zone of every question, and else another target answers, or a person. No I/O.

Without a certificate that a consumer has confirmed lately, nothing is acted upon, and the first target is not asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from gateway.config.cascades import ACCEPTED, DECLINED
from gateway.config.certified import certified_scorer, claim_digest
from gateway.config.config import Config
from gateway.config.routes import ConfiguredRoute
from gateway.core.certificate import CertificateInForce
from gateway.core.decided import AskedQuestion, answered_bytes
from gateway.proxy.request.call import DECISION_APIS, Call
from gateway.proxy.routing.learned_routes import RouteChoice, ServedRoute

UNCERTIFIED = "uncertified"
"""Label of decisions that came while no certificate was in force."""
_ACT, _ASK = (b"\r\nx-gateway-decision-action: " + action for action in (b"act", b"ask"))
ReadQuestion = tuple[str, AskedQuestion]
"""A reading, and the question that is asked so."""


class CertifiedRoute(ServedRoute):
    """A cascade, with the certificates that a consumer has found in force."""

    def __init__(self, configured: ConfiguredRoute, config: Config, clock: Callable[[], float] = time.time) -> None:
        """clock: Unix seconds."""
        super().__init__(configured)
        self.clock = clock
        self._questions: dict[str, ReadQuestion] = {}
        for name in configured.route.certificates:
            scorer = certified_scorer(config, name)
            if scorer is not None:
                self._questions[claim_digest(config, name)] = (scorer.reading, scorer.question)
        self.in_force: Mapping[ReadQuestion, CertificateInForce] = {}
        """The certificates that were read last, by their question and its reading."""
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
        return tuple(self._questions)

    def certify(self, known: Mapping[str, CertificateInForce], now: float) -> None:
        claims = ((question, known.get(claim)) for claim, question in self._questions.items())
        self.in_force = {question: found for question, found in claims if found is not None and found.holds(now)}

    def choose(self, call: Call) -> RouteChoice:
        if call.api not in DECISION_APIS:
            return self._unlike
        return self._asked if self._holding(self.clock()) else self._uncertified

    def decided(self, call: Call, answer: bytes) -> RouteChoice:
        """Whether every answer may be acted upon."""
        body = call.body if call.changes is None else call.body_with({})
        (reading, answered), in_force = answered_bytes(call.api, body, answer), self._holding(self.clock())
        for question, _, p in answered:
            certificate = None if question is None else in_force.get((reading, question))
            if certificate is None or p is None or p < certificate.from_p:
                return self._ask
        return self._act if answered else self._ask

    def keep(self, before: ServedRoute) -> None:
        """Keeps the certificates in force; the next look at the stream server replaces them."""
        if isinstance(before, CertifiedRoute) and before.claims == self.claims:
            self.in_force = before.in_force

    def _holding(self, now: float) -> Mapping[ReadQuestion, CertificateInForce]:
        if ACCEPTED in self.returned:
            return {}
        return {question: found for question, found in self.in_force.items() if found.holds(now)}

    def _acting(self, leaf: str, *, moved: bool, action: bytes) -> RouteChoice:
        return replace(self._choice(leaf, moved=moved), action=action)
