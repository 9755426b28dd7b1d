"""The page Label: a blind queue of answers for one labeller, by keys alone, and the calibration of the scorer.

The queue of a labeller and scorer is opened once, as by `gateway label next`, and kept: it holds what the scorer had
judged then. Opening it reads every judged answer, so it runs in the background while the page waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from gateway.config.config import Config
from gateway.console.errors import InvalidBody, NotThere, StoreAway
from gateway.console.forms import Form, form_actor
from gateway.console.frame import Page, PageRoute, PageServices, redirect, render, services_of, visitor_of
from gateway.core.errors import CannotRun
from gateway.features.guards.hourly.hours import DAY_S
from gateway.features.guards.metrics import summed_evidence
from gateway.features.guards.rows import guards_summed
from gateway.features.labels.blind import BlindItem
from gateway.features.labels.calibration import CalibrationOptions, CalibrationResult, calibrate
from gateway.features.labels.correction import MIN_LABELS
from gateway.features.labels.desk import Desk, DrawnItem, LabelRequest, criterion_of, picked_question
from gateway.features.labels.rows import (
    OF_GUARD,
    Label,
    count_labels,
    delete_label,
    guard_of,
    save_labels,
    scorers_summed,
)
from gateway.reports.number_format import counted
from gateway.store.query import Reading, reading

HOME = "/console/label"
MOST_DESKS = 16
_SOON_S = 0.15  # a queue that opens within this time needs no waiting page
_RECALIBRATE = 10  # labels after which the agreement is computed again
_GUARDS_S = 30 * DAY_S  # guards that judged a call within this time are offered
_OLD_S = 3600.0  # a queue that was not used for this long is opened again


@dataclass
class KeptDesk:
    """The queue of one labeller, with the item that is shown now."""

    desk: Desk
    left: int
    progress: dict[str, Any]
    """Progress of the labels, at the opening or a few labels ago: see progress_of and guard_progress."""
    drawn: DrawnItem | None = None
    given: list[Label] = field(default_factory=list)
    """The verdicts of this queue, the newest last."""
    turned: bool = False
    """The item's answers are shown the other way round."""
    used: float = field(default_factory=time.monotonic)
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    computing: asyncio.Task[None] | None = None


class OpenDesks:
    """The open queues of this process."""

    def __init__(self) -> None:
        self._open: OrderedDict[LabelRequest, asyncio.Task[KeptDesk | CannotRun]] = OrderedDict()

    def close(self, request: LabelRequest) -> None:
        self._open.pop(request, None)

    async def get(self, services: PageServices, request: LabelRequest, wait_s: float) -> KeptDesk | None:
        """The desk; None while it is being opened. Raises CannotRun, as Desk does."""
        opening = self._open.get(request)
        if opening is not None and opening.done() and self._is_useless(opening):
            opening = None
        if opening is None:
            work = asyncio.to_thread(_opened, services.store_url, request)
            opening = services.tasks.start(work, "label queue")
            self._open[request] = opening
            while len(self._open) > MOST_DESKS:
                self._open.popitem(last=False)
        self._open.move_to_end(request)
        done, _ = await asyncio.wait({opening}, timeout=wait_s)
        if not done:
            return None
        kept = opening.result()
        if isinstance(kept, CannotRun):
            raise kept
        kept.used = time.monotonic()
        return kept

    def _is_useless(self, opening: asyncio.Task[KeptDesk | CannotRun]) -> bool:
        if opening.cancelled() or opening.exception() is not None:
            return True
        kept = opening.result()
        return isinstance(kept, CannotRun) or time.monotonic() - kept.used > _OLD_S


def _opened(url: str, request: LabelRequest) -> KeptDesk | CannotRun:
    """The desk, or an error that has a remedy: that is shown, and not logged as a task that failed."""
    try:
        with reading(url) as connection:
            desk = Desk(connection, request)
            return KeptDesk(desk, desk.left, _progress(connection, request.scorer))
    except CannotRun as error:
        return error


def _progress(connection: Reading, scorer: str) -> dict[str, Any]:
    if (guard := guard_of(scorer)) is not None:
        return guard_progress(connection, guard)
    return progress_of(calibrate(connection, CalibrationOptions(scorer)))


async def choose_page(request: Request) -> Response:
    services = services_of(request)
    config, since = services.admin.config(), services.admin.clock() - _GUARDS_S
    seen, counts, judging = await services.admin.store.read(
        lambda c: (scorers_summed(c), count_labels(c), guards_summed(c, since))
    )
    guards = [
        {
            "name": guard,
            "labels": counts.get(OF_GUARD + guard, 0),
            "url": f"{HOME}/queue?{urlencode({'scorer': OF_GUARD + guard})}",
        }
        for guard in judging
    ]
    scorers = [
        {
            "name": name,
            "use": (config.scorers[name].use or name) if name in config.scorers else "not in the config",
            "labels": counts.get(name, 0),
            "url": f"{HOME}/queue?{urlencode({'scorer': name})}",
        }
        for name in seen
    ]
    scorers.sort(key=lambda scorer: (scorer["labels"] == 0, scorer["name"]))
    ready = sum(counts.get(name, 0) >= MIN_LABELS for name in seen)
    shown: dict[str, Any] = {"scorers": scorers, "guards": guards, "experiments": list(config.experiments)}
    shown["headline"] = f"{ready or 'None'} of {counted(len(scorers), 'scorer')} has labels enough to be corrected"
    return render(request, "label.html.jinja", enough=MIN_LABELS, **shown)


def _asked(get: Callable[[str], str | None], labeller: str, config: Config) -> LabelRequest:
    """The queue that a query or a form names. Raises InvalidBody."""
    scorer = get("scorer") or ""
    favour: float | None = None if guard_of(scorer) is not None else 1.0
    try:
        favour = float(get("favour") or 0.0) or favour
    except ValueError:
        favour = 0.0
    if favour is not None and not 0.01 <= favour <= 100:
        raise InvalidBody(f"favour: expected a number from 0.01 to 100, got {(get('favour') or '')[:20]!r}")
    question = picked_question(scorer, config.scorers.get(scorer))
    return LabelRequest(scorer, labeller, get("experiment") or "", favour, bool(get("again")), question=question)


def _desks(services: PageServices) -> OpenDesks:
    desks: OpenDesks = services.kept.setdefault("label", OpenDesks())
    return desks


async def _desk(services: PageServices, asked: LabelRequest, wait_s: float) -> KeptDesk | None:
    try:
        return await _desks(services).get(services, asked, wait_s)
    except CannotRun as error:
        raise NotThere(str(error)) from None


async def queue_page(request: Request) -> Response:
    services = services_of(request)
    asked = _asked(request.query_params.get, visitor_of(request).actor.name, services.admin.config())
    kept = await _desk(services, asked, _SOON_S)
    if kept is None:
        waiting = render(request, "label_opening.html.jinja", scorer=asked.scorer)
        waiting.headers["refresh"] = "1"
        return waiting
    async with kept.busy:
        if kept.drawn is None:
            kept.drawn = await services.admin.store.read(kept.desk.next)
        return render(
            request,
            "label_queue.html.jinja",
            asked=asked,
            subject=kept.desk.scorer.subject,
            item=None if kept.drawn is None else shown(kept.drawn.blind, turned=kept.turned),
            criterion=criterion_of(asked.scorer, services.admin.config().scorers.get(asked.scorer)) or "",
            given=len(kept.given),
            left=kept.left,
            progress=kept.progress,
            guard=guard_of(asked.scorer),
        )


@dataclass(frozen=True, slots=True)
class ShownItem:
    """An item as the page shows it."""

    id: str
    question: tuple[tuple[str, str], ...]
    answers: tuple[str, ...]
    reference: str
    options: tuple[str, ...]
    order: str
    """The answer that is shown first; the form sends it back with the verdict."""


def shown(item: BlindItem, *, turned: bool) -> ShownItem:
    """turned: the other way round than the queue drew it."""
    answers = item.answers[::-1] if turned else item.answers
    swapped = item.swapped != turned
    order = "swapped" if swapped else "straight"
    return ShownItem(item.id, item.question, answers, item.reference, item.options, order)


def guard_progress(connection: Reading, guard: str) -> dict[str, Any]:
    """Labels of a guard so far, and its precision."""
    found = summed_evidence(connection, guard, time.time() - _GUARDS_S)
    plain = {"enough": MIN_LABELS, "kappa": None, "needed": None, "half_width": None}
    return plain | {"labels": found.labels if found else 0, "precision": found.precision if found else None}


def progress_of(calibration: CalibrationResult) -> dict[str, Any]:
    """The calibration of the scorer so far: labels, the agreement, and how many more are useful."""
    groups = calibration.groups
    agreed = calibration.agreement
    return {
        "labels": calibration.labels,
        "enough": MIN_LABELS,
        "kappa": agreed.kappa if agreed else None,
        "needed": groups[0].needed if groups else None,
        "half_width": calibration.options.half_width,
        "precision": None,
    }


@dataclass(frozen=True, slots=True)
class _QueueForm:
    """A form that was sent from the page of a queue."""

    form: Form
    services: PageServices
    asked: LabelRequest

    @property
    def url(self) -> str:
        return f"{HOME}/queue?{query_of(self.asked)}"

    async def desk(self) -> KeptDesk:
        """Raises StoreAway while the queue is still being opened."""
        kept = await _desk(self.services, self.asked, wait_s=30.0)
        if kept is None:
            raise StoreAway("the queue is still being opened; try again", retry_after_s=1)
        return kept


async def _queue_form(request: Request) -> _QueueForm:
    form = await form_actor(request, "labeller", "label answers", content=True)
    services = services_of(request)
    return _QueueForm(form, services, _asked(form.get, form.actor.name, services.admin.config()))


async def verdict(request: Request) -> Response:
    """One verdict on the item that was shown. A second click on the same item changes nothing."""
    sent = await _queue_form(request)
    form, services, kept = sent.form, sent.services, await sent.desk()
    async with kept.busy:
        if kept.drawn is None or kept.drawn.blind.id != form.get("item"):
            return redirect(request, sent.url)
        text = f"{form.get('verdict')} {form.get('comment')}"
        try:
            given = kept.desk.read_verdict(text, kept.drawn.blind, swapped=form.get("order") == "swapped")
        except ValueError as error:
            raise InvalidBody(str(error)) from None
        if given.stop:
            return redirect(request, HOME)
        label = kept.desk.label(kept.drawn, given)
        try:
            await services.admin.store.run(lambda c: save_labels(c, [label]))
        except BaseException:
            kept.desk.withdraw(label)
            raise
        kept.given.append(label)
        kept.drawn, kept.turned, kept.left = None, False, kept.left - 1
        _recalibrate(services, kept)
    return redirect(request, sent.url)


async def undo(request: Request) -> Response:
    """Takes back the newest verdict of this queue; its item is shown again."""
    sent = await _queue_form(request)
    kept = await sent.desk()
    async with kept.busy:
        if not kept.given:
            return redirect(request, sent.url, "there is no verdict of this queue to undo")
        label = kept.given[-1]
        await sent.services.admin.store.run(lambda c: delete_label(c, label))
        kept.given.pop()
        kept.desk.withdraw(label)
        kept.drawn, kept.turned, kept.left = None, False, kept.left + 1
    return redirect(request, sent.url, "the last verdict is taken back")


async def turn(request: Request) -> Response:
    """Shows a pair's answers in the other order: a preference that changes with the order is not a preference."""
    sent = await _queue_form(request)
    kept = await sent.desk()
    if kept.drawn is not None and kept.drawn.blind.id == sent.form.get("item"):
        kept.turned = sent.form.get("order") == ("swapped" if kept.drawn.blind.swapped else "straight")
    return redirect(request, sent.url)


async def reopen(request: Request) -> Response:
    """Draws a new queue, which includes what was judged since."""
    sent = await _queue_form(request)
    _desks(sent.services).close(sent.asked)
    return redirect(request, sent.url)


def query_of(asked: LabelRequest) -> str:
    found = {"scorer": asked.scorer}
    found |= {"experiment": asked.experiment} if asked.experiment else {}
    found |= {"favour": f"{asked.favour:g}"} if asked.favour and asked.favour != 1.0 else {}
    found |= {"again": "1"} if asked.again else {}
    return urlencode(found)


def _recalibrate(services: PageServices, kept: KeptDesk) -> None:
    """Recalibrates in the background after every few labels: that reads everything the scorer has judged."""
    if len(kept.given) % _RECALIBRATE or (kept.computing is not None and not kept.computing.done()):
        return
    url, scorer = services.store_url, kept.desk.request.scorer

    def read() -> dict[str, Any]:
        with reading(url) as connection:
            return _progress(connection, scorer)

    async def compute() -> None:
        kept.progress = await asyncio.to_thread(read)

    kept.computing = services.tasks.start(compute(), "calibration")


PAGE = Page(
    path=HOME,
    title="Label",
    role="labeller",
    content=True,
    routes=(
        PageRoute(HOME, choose_page, role="labeller", content=True),
        PageRoute(f"{HOME}/queue", queue_page, role="labeller", content=True),
        PageRoute(f"{HOME}/verdict", verdict, methods=("POST",), role="labeller", content=True),
        PageRoute(f"{HOME}/undo", undo, methods=("POST",), role="labeller", content=True),
        PageRoute(f"{HOME}/turn", turn, methods=("POST",), role="labeller", content=True),
        PageRoute(f"{HOME}/reopen", reopen, methods=("POST",), role="labeller", content=True),
    ),
)
