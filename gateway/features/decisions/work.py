"""The certificates of a config: reads what is known of each, and stores what has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from gateway.config.config import Config
from gateway.core.errors import CannotRun
from gateway.features.decisions.certification import Evidence, all_tries, examine, map_in_force, zone_at
from gateway.features.decisions.labelled import labelled_calls, question_digest
from gateway.features.decisions.model import CertificateFinding, Promise, Reliability, ZoneFinding
from gateway.features.decisions.reliability import reliability
from gateway.features.decisions.rows import (
    labels_of_version,
    newest_attempts,
    newest_probabilities,
    save_attempt,
    save_tries,
    stored_tries,
)
from gateway.features.labels.rows import ScorerVersion, version_of
from gateway.store.query import Reading


def promises_of(config: Config) -> tuple[Promise, ...]:
    """The certificates of the section `decisions`, by name."""
    section = config.decisions
    return tuple(
        Promise(
            name,
            certificate.labelled_as,
            section.wrong_of(certificate),
            section.confidence_of(certificate),
            certificate.guarantee,
            *_asked(config, certificate.scorer),
        )
        for name, certificate in sorted(section.certificates.items())
    )


def _asked(config: Config, scorer: str | None) -> tuple[str, str]:
    """(the model name that a scorer asks, or the target whose decisions it reads; the reading of it, as that model has
    it); "" where it has none."""
    section = config.scorers.get(scorer or "")
    options = {} if section is None else section.options
    asked = str(options.get("model") or options.get("target") or "")
    decisions = getattr(config.models.get(asked), "decisions", None)
    return asked, str(options.get("reading") or ("" if decisions is None else decisions.reading))


def promise_named(config: Config, name: str) -> Promise:
    """Raises CannotRun."""
    from gateway.core.did_you_mean import did_you_mean

    promises = {promise.name: promise for promise in promises_of(config)}
    if name in promises:
        return promises[name]
    hint = did_you_mean(name, promises) or "; name one below `decisions.certificates` in gateway.yaml"
    raise CannotRun(f'"{name}" is not a certificate of the config{hint}')


def look(connection: Reading, promise: Promise, now: float) -> CertificateFinding:
    """The certificate as it is; nothing is stored. Raises CannotRun if its scorer has scored nothing."""
    return examine(_evidence(connection, _version(connection, promise), promise, now))


def truth_of(connection: Reading, scorer: str) -> Reliability | None:
    """The truth of a scorer's probability; None if it has scored nothing, or judges pairs."""
    version = version_of(connection, scorer)
    if version is None or version.subject == "pair":
        return None
    calls = labelled_calls(scorer, labels_of_version(connection, version))
    return reliability(calls, map_in_force(all_tries(calls, stored_tries(connection, version))))


def look_at(
    connection: Reading, promise: Promise, now: float, threshold: float
) -> tuple[CertificateFinding, ZoneFinding]:
    """The certificate as it is, and what the labels say of any threshold. Raises CannotRun as `look`."""
    evidence = _evidence(connection, _version(connection, promise), promise, now)
    found = examine(evidence)
    return found, zone_at(evidence, found, threshold)


def follow(connection: Reading, promise: Promise, now: float) -> CertificateFinding:
    """The same, and stores the tries of a map, and a lapse. It begins and gives nothing: a person does."""
    version = _version(connection, promise)
    evidence = _evidence(connection, version, promise, now)
    found = examine(evidence)
    save_tries(connection, version, found.tries)
    if found.attempt is not None and evidence.attempt is not None and found.attempt != evidence.attempt:
        save_attempt(connection, found.attempt)
    return found


def certify(connection: Reading, promise: Promise, now: float) -> CertificateFinding:
    """Gives the certificate if the labels show it, and stores what these labels change. Raises CannotRun as `look`."""
    version = _version(connection, promise)
    evidence = replace(_evidence(connection, version, promise, now), gives=True)
    found = examine(evidence)
    save_tries(connection, version, found.tries)
    if found.attempt is not None and found.attempt != evidence.attempt:
        save_attempt(connection, found.attempt)
    return found


def findings(
    connection: Reading, promises: Sequence[Promise], now: float, of: Callable[..., CertificateFinding] = look
) -> Iterator[CertificateFinding]:
    """Those of all promises whose scorer has scored something."""
    for promise in promises:
        try:
            yield of(connection, promise, now)
        except CannotRun:
            continue


def _version(connection: Reading, promise: Promise) -> ScorerVersion:
    version = version_of(connection, promise.labelled_as)
    if version is None:
        raise CannotRun(f'"{promise.labelled_as}" of certificate {promise.name} has scored nothing yet')
    if version.subject == "pair":
        raise CannotRun(f'"{promise.labelled_as}" judges pairs; a certificate needs the probability of one answer')
    return version


def _evidence(connection: Reading, version: ScorerVersion, promise: Promise, now: float) -> Evidence:
    calls = labelled_calls(version.scorer, labels_of_version(connection, version))
    traffic, stored = newest_probabilities(connection, version), stored_tries(connection, version)
    attempt = newest_attempts(connection).get(promise.name)
    return Evidence(promise, question_digest(version), calls, traffic, stored, attempt, now)
