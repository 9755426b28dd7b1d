"""What a certificate of the config rests on, for the gateway that obeys it and the consumer that watches it."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import orjson
from pydantic import ValidationError

from gateway.config.config import Config
from gateway.config.decided_questions import DECIDED, DecidedQuestion
from gateway.core.decided import NATIVE, AskedQuestion


class CertifiedScorer(NamedTuple):
    """The scorer of a certificate about the answers of decisions."""

    question: AskedQuestion
    target: str
    """Target as "upstream/model"; "" for the answers of all."""
    reading: str


def certified_scorer(config: Config, certificate: str) -> CertifiedScorer | None:
    """Returns None for a certificate about anything but the answers of decisions, and for one that the config lacks."""
    promise = config.decisions.certificates.get(certificate)
    name = "" if promise is None else promise.scorer or ""
    section = config.scorers.get(name)
    if section is None or (section.use or name) != DECIDED:
        return None
    try:
        question = DecidedQuestion.model_validate(section.options.get("question"))
    except ValidationError:
        return None
    options = section.options
    return CertifiedScorer(question.asked, str(options.get("target") or ""), str(options.get("reading") or NATIVE))


def claim_digest(config: Config, certificate: str) -> str:
    """16 hexadecimal digits of the promise, the question, the target and the reading: a gateway obeys what a consumer
    found about exactly these."""
    section, scorer = config.decisions, certified_scorer(config, certificate)
    promise = section.certificates[certificate]
    text = [promise.labelled_as, section.wrong_of(promise), section.confidence_of(promise), promise.guarantee, scorer]
    return hashlib.sha256(orjson.dumps([certificate, *text], default=list)).hexdigest()[:16]
