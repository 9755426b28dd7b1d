"""The certificates that a route, or a target with `as: decision`, obeys: whether a decision may be acted upon. No I/O.

A certificate that no consumer has confirmed lately is not in force.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from gateway.config.certified import certified_scorer, claim_digest
from gateway.config.config import Config
from gateway.core.certificate import CertificateInForce
from gateway.core.decided import NATIVE, AskedQuestion, asked_question
from gateway.core.decision import Answer
from gateway.core.decision_schema import DecisionSchema

ReadQuestion = tuple[str, AskedQuestion]
"""A reading, and the question that is asked so."""


class CertifiedQuestions:
    """The questions of some certificates of a config, and what a consumer has found about each."""

    def __init__(
        self, names: Sequence[str], config: Config, clock: Callable[[], float] = time.time, *, reading: str = NATIVE
    ) -> None:
        """names: of the certificates. clock: Unix seconds. reading: of the target whose chats become decisions."""
        self.clock = clock
        self._reading = reading
        self.names = tuple(names)
        self._questions: dict[str, ReadQuestion] = {}
        for name in names:
            scorer = certified_scorer(config, name)
            if scorer is not None:
                self._questions[claim_digest(config, name)] = (scorer.reading, scorer.question)
        self.in_force: Mapping[ReadQuestion, CertificateInForce] = {}
        """The certificates that were read last, by their question and its reading."""

    @property
    def claims(self) -> Sequence[str]:
        """The digests of what the certificates claim, by which consumers share them."""
        return tuple(self._questions)

    def certify(self, known: Mapping[str, CertificateInForce], now: float) -> None:
        """known: certificates in force, by the digests of their claims. now: Unix seconds."""
        claims = ((question, known.get(claim)) for claim, question in self._questions.items())
        self.in_force = {question: found for question, found in claims if found is not None and found.holds(now)}

    def keep(self, before: CertifiedQuestions) -> None:
        """Keeps the certificates in force under the previous config; the next look at the stream server replaces
        them."""
        if before.claims == self.claims:
            self.in_force = before.in_force

    def holding(self) -> Mapping[ReadQuestion, CertificateInForce]:
        now = self.clock()
        return {question: found for question, found in self.in_force.items() if found.holds(now)}

    def cover(self, schema: DecisionSchema) -> bool:
        """Whether a certificate is in force for each question of a schema: else nothing could be acted upon, and the
        model is not asked."""
        holding = self.holding()
        return all((self._reading, asked_question(question)) in holding for question in schema.questions)

    def accept(self, schema: DecisionSchema, answers: Sequence[Answer]) -> bool:
        """Whether every answer is in the certified zone of its question. No answer may be a refusal."""
        holding = self.holding()
        for question, answer in zip(schema.questions, answers, strict=True):
            certificate = holding.get((self._reading, asked_question(question)))
            if certificate is None or max(answer.probabilities) < certificate.from_p:
                return False
        return True
