"""Plans and certificates on the terminal, as JSON, and in reports of experiments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypedDict

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from gateway.core.sanitize import plain
from gateway.features.decisions.model import LAPSES, CertificateFinding, Disagreement, Promise, Reliability, Zone
from gateway.features.decisions.plan import FIRST_LABELS, CertificatePlan, LabelPrice
from gateway.features.decisions.rows import newest_attempts
from gateway.features.decisions.work import findings
from gateway.reports.section import ReportSection
from gateway.reports.terminal import plain_table, safe_text
from gateway.statistics.calibration import LEAST
from gateway.store.query import reading


class PlanOutput(TypedDict):
    """The price of a certificate in labels."""

    wrong: float
    """The largest share that may be wrong."""
    confidence: float
    first_labels: int
    """Labels over all traffic that calibrate the probability."""
    prices: list[LabelPrice]


class ZoneOutput(TypedDict):
    threshold: float
    """Calibrated probability from which on the zone begins."""
    share: float
    """The share of the traffic in it."""
    predicted_error: float
    labels: int
    """Labels in it that test it."""
    wrong: float
    log_evidence: float
    log_limit: float
    """The zone is certified from here."""
    more: int | None
    """Further labels that would probably suffice; None: more than anybody labels."""


class CertificateOutput(TypedDict):
    """A promise of the config, and what people's labels say of it."""

    name: str
    scorer: str
    alias: str
    """The model name that the scorer asks; "" if it asks none."""
    reading: str
    wrong: float
    confidence: float
    guarantee: str
    state: str
    """One of `open`, `certified` and `lapsed`."""
    question: str
    """Digest of the scorer's version and config."""
    map: str
    """Digest of the map of the probability."""
    map_labels: int
    """Labels that the map was tried with; 0: none was accepted."""
    labels: int
    threshold: float | None
    """Calibrated probability from which on one may act; None without a certificate."""
    share: float | None
    zone_labels: int | None
    """Labels in the zone when the certificate was given."""
    given: float | None
    """Unix seconds."""
    horizon: float | None
    """The time of the newest label of the certificate, Unix seconds."""
    lapsed: float | None
    reason: str | None
    refused: str
    drift_log_evalue: float
    drift_labels: int
    people: Disagreement | None
    """Disagreement of people about the same answers; None: unknown."""
    zones: list[ZoneOutput]


def plan_to_dict(found: CertificatePlan) -> dict[str, Any]:
    """The members of PlanOutput."""
    return {
        "wrong": found.claim.bound,
        "confidence": 1.0 - found.claim.delta,
        "first_labels": FIRST_LABELS,
        "prices": [asdict(price) for price in found.prices],
    }


def plan_text(found: CertificatePlan) -> RenderableType:
    figures = ("labels, any look", "one look")
    table = plain_table(("true error in the zone", *figures), right=figures)
    for price in found.prices:
        table.add_row(f"{price.true_error:.2%}", *map(_labels, (price.any_look, price.one_look)))
    claim = found.claim
    promise = f"at most {claim.bound:.1%} wrong from the threshold on, with {1 - claim.delta:.0%} confidence"
    first = f"first {FIRST_LABELS} labels over all traffic, then in the zone, with 80 % probability of a certificate:"
    return Lines(Text(promise, "bold"), Text(first), table)


def _labels(n: int | None) -> str:
    return "too many" if n is None else str(n)


def to_dict(found: CertificateFinding) -> dict[str, Any]:
    """The members of CertificateOutput."""
    promise, attempt, certified = found.promise, found.attempt, found.certified
    zones = [
        asdict(z.zone)
        | {"labels": z.labels, "wrong": z.wrong, "log_evidence": z.log_evidence, "log_limit": z.log_limit}
        | {"more": z.more}
        for z in found.zones
    ]
    return {
        "name": promise.name,
        "scorer": promise.labelled_as,
        "alias": promise.alias,
        "reading": promise.reading,
        "wrong": promise.wrong,
        "confidence": promise.confidence,
        "guarantee": promise.guarantee,
        "state": found.state,
        "question": found.question,
        "map": found.in_force.map.digest,
        "map_labels": found.in_force.labels,
        "labels": found.labels,
        "threshold": certified.threshold if certified else None,
        "share": certified.share if certified else None,
        "zone_labels": attempt.zone_labels if attempt and certified else None,
        "given": attempt.given if attempt else None,
        "horizon": attempt.horizon if attempt else None,
        "lapsed": attempt.lapsed if attempt else None,
        "reason": LAPSES[attempt.reason] if attempt and attempt.reason else None,
        "refused": found.refused,
        "drift_log_evalue": found.drift.log_e,
        "drift_labels": found.drift.labels,
        "people": asdict(found.people) if found.people else None,
        "zones": zones,
    }


def table(found: Sequence[CertificateFinding]) -> RenderableType:
    """Certificates, one a row."""
    if not found:
        return Text("no certificate is in the config, or its scorer has scored nothing")
    drawn = plain_table(("name", "scorer", "state", "from", "share", "labels", ""), right=("from", "share", "labels"))
    for each in found:
        certified, promise = each.certified, each.promise
        figures = (f"{certified.threshold:.3f}", f"{certified.share:.1%}") if certified else ("–", "–")
        cells = (promise.name, promise.labelled_as, each.state, *figures, str(each.labels), headline(each))
        drawn.add_row(*map(safe_text, cells))
    return drawn


def to_terminal(found: CertificateFinding) -> RenderableType:
    return Lines(*(Text(plain(line)) for line in lines_of(found)))


def lines_of(found: CertificateFinding) -> Iterator[str]:
    """The certificate in sentences, each with the labels behind it."""
    promise, in_force = found.promise, found.in_force
    yield f"{promise.name}: {promise_text(promise)}"
    yield f"{headline(found)}"
    how = (
        f"by a map of {in_force.labels} labels ({in_force.map.digest})" if in_force.labels else "as the scorer gives it"
    )
    yield f"probability: {how}; {found.labels} labels"
    for each in found.zones:
        yield f"zone {zone_text(each.zone)}: {each.wrong:g} wrong of {each.labels} labels, {_more(each.more)}"
    yield people_text(found.people)


def sentences(found: CertificateFinding) -> str:
    """How true the probability is, and how much may be automated, each with the labels behind it."""
    return f"{found.promise.name}: {truth_text(found.truth)}. {automated_text(found)}."


def truth_text(truth: Reliability) -> str:
    raw, mapped = truth.raw, truth.mapped
    if raw is None:
        return f"fewer than {LEAST} labels say nothing of its probability"
    text = f"says {raw.said:.2f} where people say {raw.rate:.2f} ({raw.n} labels)"
    if mapped is None:
        return text
    half = (mapped.bias.high - mapped.bias.low) / 2.0
    return (
        f"{text}; by its map {mapped.said:.2f} where they say {mapped.rate:.2f} ± {half:.2f} ({mapped.n} later labels)"
    )


def automated_text(found: CertificateFinding) -> str:
    attempt, promise = found.attempt, found.promise
    if found.certified is None or attempt is None or found.reached is None:
        return f"Nothing is automated: {headline(found)}"
    basis = f"{promise.confidence:.0%} confidence, {attempt.zone_labels} labels in the zone"
    if promise.guarantee == "average":
        basis = f"of all traffic, on average, {attempt.labels} labels"
    return f"{found.reached:.0%} may be automated at ≤ {promise.wrong:.1%} wrong ({basis})"


def report_sections(url: str, now: float) -> list[ReportSection]:
    """The section on decisions of a report; none where no certificate was ever begun."""
    with reading(url) as connection:
        promises = [attempt.promise for attempt in newest_attempts(connection).values()]
        found = list(findings(connection, promises, now))
    section = ReportSection("decisions", "Decisions", items=tuple(map(sentences, found)))
    return [section] if section else []


def calibration_lines(truth: Reliability) -> Iterator[str]:
    """The truth of a probability, for `gateway judge calibrate`."""
    for title, of in (("probability", truth.raw), ("by its map", truth.mapped)):
        if of is not None:
            bias, error, brier = of.bias, of.error, of.brier
            yield (
                f"{title}: says {of.said:.3f} where people say {of.rate:.3f}; bias {bias.value:+.3f} "
                f"({bias.low:+.3f} … {bias.high:+.3f}, any look); {of.n} labels"
            )
            yield (
                f"  one look: error {error.root:.3f} ({error.low:.3f} … {error.high:.3f}), Brier {brier.brier:.3f} = "
                f"reliability {brier.reliability:.3f} - resolution {brier.resolution:.3f} + uncertainty "
                f"{brier.uncertainty:.3f}"
            )


def promise_text(promise: Promise) -> str:
    if promise.guarantee == "average":
        return f"automated and wrong: at most {promise.wrong:.1%} of all traffic, on average over draws of labels"
    return f"at most {promise.wrong:.1%} wrong from the threshold on, with {promise.confidence:.0%} confidence"


def headline(found: CertificateFinding) -> str:
    """The state in a sentence."""
    attempt, certified = found.attempt, found.certified
    if certified is not None and attempt is not None:
        return f"certified by {attempt.zone_labels} labels in its zone: act from {certified.threshold:.3f} on"
    if attempt is not None and attempt.reason is not None:
        return f"lapsed: {LAPSES[attempt.reason]}; everything goes to people"
    if found.refused:
        return f"refused: {found.refused}"
    if found.labels < FIRST_LABELS:
        return f"{FIRST_LABELS - found.labels} more labels over all traffic choose a zone"
    if not found.zones:
        return "no zone has so few predicted errors"
    known = [each.more for each in found.zones if each.more is not None]
    return f"about {min(known)} more labels in the zone" if known else "more labels than anybody gives"


def zone_text(zone: Zone) -> str:
    return f"from {zone.threshold:.3f} on ({zone.share:.1%} of the traffic, predicted error {zone.predicted_error:.2%})"


def people_text(people: Disagreement | None) -> str:
    if people is None:
        return "how often people's labels are wrong is unknown: no answer has the labels of two people"
    return (
        f"people disagree about {people.differ} of {people.twice} answers that two of them labelled: a label is wrong "
        f"in about {people.error:.1%}, {people.low:.1%} at least"
    )


def _more(more: int | None) -> str:
    if more == 0:
        return "certified"
    return "more than anybody labels are missing" if more is None else f"about {more} more"
