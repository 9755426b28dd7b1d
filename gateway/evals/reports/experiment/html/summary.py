"""The top of the page: the verdict in a sentence, four numbers, why, the course of the difference, the gates."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.evals.experiments import wording as say
from gateway.evals.experiments.report import Report
from gateway.evals.reports.experiment.html.bars import parts_bar
from gateway.evals.reports.experiment.html.markup import Markup, tag
from gateway.evals.reports.experiment.html.parts import TONES, section, toned
from gateway.evals.reports.experiment.html.trails import KEY, Course
from gateway.evals.reports.experiment.views import MOODS, arms_compared, comparisons, drawn, latency_compared


def verdict(report: Report) -> Markup:
    mood = MOODS[report.verdict]
    badge = tag("span", f"{say.SIGNS[mood]} {say.VERDICTS[report.verdict]}", class_=f"badge {TONES[mood]}")
    name, candidate = tag("strong", report.experiment), tag("strong", report.candidate)
    span = f", from {say.when(report.first)} to {say.when(report.last)}" if report.first is not None else ""
    why = tag("ul", (tag("li", reason) for reason in report.reasons), class_=f"reasons {TONES[mood]}")
    return tag(
        "header",
        tag("p", badge, tag("span", "Experiment ", name, ", candidate ", candidate), class_="over"),
        tag("h1", report.sentence.replace(" … ", "\u00a0…\u00a0"), dir="auto"),
        tag("p", f"{say.counted(report.pairs, 'pair')}{span}. Plan ", tag("code", report.plan), ".", class_="meta"),
        why if report.reasons else None,
        tag("dl", _primary(report), _pairs(report), _cost(report), _latency(report), class_="tiles"),
    )


def _primary(report: Report) -> Markup | None:
    if (c := report.primary) is None or c.difference.value is None:
        return None
    places = say.digits_of(c.difference, margin=c.margin)
    margin = f"; margin {c.margin:g}" if c.margin else ""
    value = say.number(c.difference.value, places, signed=True)
    return _tile(f"Difference on {say.titled(c)}", value, f"{say.interval(c.difference, places)}{margin}")


def _pairs(report: Report) -> Markup:
    effective = f"{say.count(report.primary.effective_n)} effective; " if report.primary else ""
    return _tile("Pairs", say.count(report.pairs), f"{effective}{say.count(drawn(report) - report.pairs)} withheld")


def _cost(report: Report) -> Markup | None:
    if (both := arms_compared(report)) is None:
        return None
    before, after = (arm.cost_per_1k for arm in both)
    if not before or not after or not before.value or after.value is None:
        return None
    beside = f"{say.dollars(before.value)} → {say.dollars(after.value)}"
    return _tile("Cost per 1k requests", say.change(before.value, after.value), beside)


def _latency(report: Report) -> Markup | None:
    if (both := latency_compared(report)) is None:
        return None
    (before, after), arm = (each.p95.value for each in both), both[0].arm
    if before is None or after is None:
        return None
    places = say.digits(max(abs(after - before), 0.1))
    beside = f"{say.number(before, places)} s ({arm}) → {say.number(after, places)} s"
    return _tile("Time by which 95 % are answered", f"{say.number(after - before, places, signed=True)} s", beside)


def _tile(name: str, figure: str, beside: str) -> Markup:
    return tag("div", tag("dt", name), tag("dd", figure, class_="figure"), tag("dd", beside, class_="beside"))


def course(report: Report) -> Markup | None:
    """The primary difference as pairs came, large; the other metrics', small."""
    large, small = list(_trails(report, small=False)), list(_trails(report, small=True))
    if not large and not small:
        return None
    return section("The difference, as pairs came", KEY, large, tag("div", small, class_="small-charts"))


def _trails(report: Report, *, small: bool) -> Iterator[Markup]:
    by_metric = {c.metric: c for c in comparisons(report)}
    first = report.primary.metric if report.primary else None
    for i, trail in enumerate(report.trails):
        c = by_metric.get(trail.metric)
        title = say.titled(c) if c else trail.metric
        course = Course(f"trail-{i}", trail, title, c.margin if c else None, small)
        figure = course.figure(tag("strong", title), f": {say.finding(c)}" if c else "")
        if figure and (trail.metric != first) == small:
            yield figure


def gates(report: Report) -> Markup | None:
    if not report.gates:
        return None
    rows = (
        tag("li", toned(g.state, f"{say.SIGNS[g.state]} {say.STATES[g.state]}"),
            tag("strong", g.name), tag("span", g.says))
        for g in report.gates
    )  # fmt: skip
    return section("Gates", "A verdict needs every gate green.", tag("ul", rows, class_="gates"))


def wins(report: Report) -> Markup | None:
    if (w := report.wins) is None or not (n := w.wins + w.ties + w.losses):
        return None
    parts = (
        (w.wins, "wins", "candidate preferred"), (w.ties, "ties", "tie"), (w.losses, "losses", "control preferred"),
    )  # fmt: skip
    key = (
        tag("li", tag("span", class_=f"swatch {look}"), f"{words}: ",
            tag("strong", say.count(k)), f" ({say.share(k / n)})")
        for k, look, words in parts
    )  # fmt: skip
    both = (
        f"Judged in both orders. The winner changed with the order in {say.share(w.flip_rate)}, which makes a tie; the "
        f"answer shown first won {say.share(w.first_slot_rate)} of the time."
    )
    lead = None if w.flip_rate is None and w.first_slot_rate is None else both
    bar = parts_bar([(k, look) for k, look, _ in parts])
    return section("Win, tie, loss", lead, bar, tag("ul", key, class_="keys"))
