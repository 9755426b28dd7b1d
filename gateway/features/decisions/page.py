"""The pages of decisions: the certificates, and one of them with its reliability diagram and a threshold to move."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from gateway.console.errors import InvalidBody, NotThere
from gateway.console.frame import Page, PageRoute, render, services_of
from gateway.core.errors import CannotRun
from gateway.features.decisions.model import CertificateFinding, Reliability, ZoneFinding
from gateway.features.decisions.plan import FIRST_LABELS, price
from gateway.features.decisions.reliability import BINS_FROM
from gateway.features.decisions.report import headline, people_text, promise_text
from gateway.features.decisions.work import findings, look_at, promise_named, promises_of
from gateway.reports import number_format as say
from gateway.reports.charts import Axes, Chart, Scale, Shape, line, shape, ticks, variants_of
from gateway.statistics.calibration import ReliabilityBin
from gateway.store.query import Reading

PATH = "/console/decisions"
_HEIGHT = 300
_USUAL = 0.9
TONES = {"open": "open", "certified": "good", "lapsed": "bad"}


async def list_page(request: Request) -> Response:
    services = services_of(request)
    promises, now = promises_of(services.admin.config()), services.admin.clock()
    found = await services.admin.store.read(lambda connection: list(findings(connection, promises, now)))
    silent = sorted({promise.name for promise in promises} - {each.promise.name for each in found})
    return render(
        request,
        "decisions.html.jinja",
        found=found,
        silent=silent,
        summary=summary(found),
        headline=headline,
        tones=TONES,
    )


def summary(found: Sequence[CertificateFinding]) -> str:
    """The page in a sentence."""
    if not found:
        return "Nothing is decided by a probability alone"
    certified = sum(each.certified is not None for each in found)
    lapsed = sum(each.state == "lapsed" for each in found)
    words = f"{certified or 'None'} of {say.counted(len(found), 'promise')} is certified by people's labels"
    return f"{words}; {lapsed} lapsed" if lapsed else words


async def certificate_page(request: Request) -> Response:
    services, name = services_of(request), request.path_params["name"]
    now, asked = services.admin.clock(), _threshold(request.query_params.get("t"))
    try:
        promise = promise_named(services.admin.config(), name)

        def reading(connection: Reading) -> tuple[CertificateFinding, ZoneFinding]:
            return look_at(connection, promise, now, _USUAL if asked is None else asked)

        found, moved = await services.admin.store.read(reading)
    except CannotRun as error:
        raise NotThere(str(error)) from None
    return render(
        request,
        "certificate.html.jinja",
        found=found,
        moved=moved,
        tone=TONES[found.state],
        summary=headline(found),
        promise_text=promise_text(promise),
        people=people_text(found.people),
        chart=reliability_chart(found),
        enough=BINS_FROM,
        first=FIRST_LABELS,
        price=price(0.1 * promise.wrong, promise.claim),
    )


def _threshold(text: str | None) -> float | None:
    """Raises InvalidBody."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise InvalidBody(f"t: expected a probability from 0 to 1, got {text[:20]!r}")
    return value


def reliability_chart(found: CertificateFinding) -> Chart | None:
    """The rates of the bins against their probabilities, raw and by the map, with the certified zone. None below 30
    labels."""
    truth, certified = found.truth, found.certified
    if truth.raw is None:
        return None
    raw, mapped = truth.raw.bins, truth.mapped.bins if truth.mapped is not None else ()

    def draw(width: int) -> tuple[Shape, ...]:
        x, y = Scale(0.0, 1.0, 58, width - 18), Scale(0.0, 1.0, _HEIGHT - 52, 14)
        marks = tuple((v, f"{v:g}") for v in ticks(0.0, 1.0, 5))
        return (
            *(() if certified is None else [_zone(x(certified.threshold), x, y)]),
            *Axes(x, y, marks, marks, "probability; dashed: true").shapes(),
            shape("path", d=f"M{x(0):.1f} {y(0):.1f}L{x(1):.1f} {y(1):.1f}", look="before"),
            *(part for each in raw for part in _interval(each, x, y, "open")),
            *(part for each in mapped for part in _interval(each, x, y, "good")),
        )

    return Chart("reliability", "People's verdicts by probability", _description(truth), _HEIGHT, variants_of(draw))


def _zone(start: float, x: Scale, y: Scale) -> Shape:
    return shape("rect", x=start, y=y.end, width=x.end - start, height=y.start - y.end, look="zone")


def _interval(of: ReliabilityBin, x: Scale, y: Scale, tone: str) -> tuple[Shape, ...]:
    at = x(of.probability)
    return (
        line(at, y(of.low), at, y(of.high), f"whisker {tone}"),
        shape("circle", cx=at, cy=y(of.rate), r=5.0, look=f"dot {tone}"),
    )


def _description(truth: Reliability) -> str:
    raw = truth.raw
    if raw is None:
        return ""
    text = f"As the scorer gives it, it says {raw.said:.2f} where people say {raw.rate:.2f} ({raw.n} labels)."
    if truth.mapped is not None:
        mapped = truth.mapped
        text += f" By the map it says {mapped.said:.2f} where they say {mapped.rate:.2f} ({mapped.n} labels)."
    return text


PAGE = Page(
    PATH,
    "Decisions",
    (PageRoute(PATH, list_page), PageRoute(f"{PATH}/of/{{name}}", certificate_page)),
)
