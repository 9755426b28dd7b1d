"""The pages of calls: the list with its filters, and one call with everything that is known about it.

A visitor without the right to read prompts and answers sees figures only, and may not search in texts either: the hits
of a search would reveal the texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Self
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.console.admin import Admin
from gateway.console.errors import AdminError, InvalidBody, NotPermitted, NotThere, StoreAway
from gateway.console.filters import count, seconds, shortened
from gateway.console.forms import form_actor
from gateway.console.frame import (
    COOKIE,
    RUNS,
    Page,
    PageRoute,
    PageServices,
    proxied_name,
    redirect,
    render,
    services_of,
    to_html,
    visitor_of,
)
from gateway.core.conversation import turns
from gateway.core.exchange import Target
from gateway.core.json_values import parse_object
from gateway.core.time_span import seconds_of
from gateway.features.calls.excerpts.judged_passages import AnswerWithReasons, JudgesReason, judged_answer
from gateway.features.calls.live import MOST as LIVE_MOST
from gateway.features.calls.live import LiveTail, LiveTails
from gateway.features.calls.live import events as live_events
from gateway.features.calls.playground import PATHS, ask_targets, chosen_targets, new_run, start_run
from gateway.features.calls.rows.calls import (
    CallFilter,
    CallPage,
    FullCall,
    full_call,
    list_calls,
    scorers_with_poor_scores,
)
from gateway.features.calls.rows.facets import Facets, count_facets
from gateway.features.calls.samples import readable
from gateway.features.labels.blind import LabelVerdict, answer_text
from gateway.features.labels.desk import label_by_hand
from gateway.features.labels.rows import ScorerVersion, save_labels
from gateway.reports.text_diff import side_by_side
from gateway.store.engine import Transaction
from gateway.store.query import Found, Reading, right_answer
from gateway.store.where import Node, QueryError, parse, terms

PATH = "/console/calls"
SPANS = (
    ("", "any time"),
    ("1h", "last hour"),
    ("24h", "last 24 hours"),
    ("7d", "last 7 days"),
    ("30d", "last 30 days"),
)
OUTCOMES = ("ok", "client_gone", "client_deadline", "blocked", "upstream_error", "timeout", "cut")
_CONTENT = frozenset({"text", "reasoning", "refusal", "tool_calls", "request", "explanation", "label", "error"})
_MADE_ELSEWHERE = frozenset({"upstream_id", "client_id", "finish_reason", "unit", "run"})
"""Texts of upstreams and clients, which may have any content: a search in them needs the right to read them; a whole
value may be compared."""
POOR = 0.4
"""A value, rescaled so that 1 is the best, below which a score is poor."""
_FAILED = ("upstream_error", "timeout", "cut")
_FIELDS = ("alias", "model", "caller", "outcome", "role")
FACET_TITLES = {
    "alias": "Model name", "model": "Upstream's model", "outcome": "Outcome", "role": "Role", "caller": "Caller",
}  # fmt: skip


class TooManyTails(AdminError):
    """The maximum number of people follow the list live already."""

    status = 503
    code = "too_many_tails"


@dataclass(frozen=True, slots=True)
class PageSearch:
    """The filters in the address of a page."""

    path: ClassVar[str]

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self:
        return cls(**{each.name: query.get(each.name, "").strip() for each in fields(cls)})

    def address(self, **changed: str) -> str:
        query = urlencode({name: value for name, value in (asdict(self) | changed).items() if value})
        return f"{self.path}?{query}" if query else self.path


@dataclass(frozen=True, slots=True)
class CallSearch(PageSearch):
    """The filters of calls."""

    path: ClassVar[str] = PATH

    alias: str = ""
    model: str = ""
    caller: str = ""
    outcome: str = ""
    role: str = ""
    words: str = ""
    """Text that the answer contains."""
    where: str = ""
    since: str = ""
    worst: str = ""
    after: str = ""

    @property
    def expression(self) -> str:
        """The filters but the time, in the language of --where; "": none."""
        given = [f"{name}={_quoted(getattr(self, name))}" for name in _FIELDS if getattr(self, name)]
        given += [f"text~{_quoted(self.words)}"] if self.words else []
        given += [f"({self.where})" if given else self.where] if self.where else []
        return " ".join(given)

    def __getitem__(self, name: str) -> str:
        found: str = getattr(self, name)
        return found

    def chosen(self, name: str, value: str) -> str:
        """The address with a facet's value, or without it where it is chosen already."""
        return self.address(after="", **{name: "" if self[name] == value else value})


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


async def list_page(request: Request) -> Response:
    search = CallSearch.of(request.query_params)
    services, content = services_of(request), visitor_of(request).actor.content
    trouble, page = "", CallPage((), None)

    def reading(connection: Reading) -> tuple[CallPage, list[str], Facets]:
        facets = count_facets(connection, wanted.since, {name: search[name] for name in _FIELDS})
        return list_calls(connection, wanted), scorers_with_poor_scores(connection), facets

    scorers, facets = list[str](), Facets()
    try:
        wanted = call_filter(search, services.admin.clock(), content)
        page, scorers, facets = await services.admin.store.read(reading)
    except (QueryError, ValueError) as error:
        trouble = str(error)
        scorers = await services.admin.store.read(scorers_with_poor_scores)
    following = "" if page.next is None else search.address(after=f"{page.next[0]!r}~{page.next[1]}")
    return render(
        request,
        "calls.html.jinja",
        400 if trouble else 200,
        search=search,
        page=page,
        groups=[("", page.calls)] if search.worst else bad_first(page.calls),
        next=following,
        first=search.address(after="") if search.after else "",
        trouble=trouble,
        aliases=_aliases(services.admin, facets),
        scorers=sorted({*scorers, *([search.worst] if search.worst else [])}),
        spans=SPANS,
        outcomes=OUTCOMES,
        target_text=target_text,
        facets=facets,
        facet_titles=FACET_TITLES,
        headline="Calls" if trouble else headline(search, facets),
        views=views_of(search, scorers),
        here=search.address(),
        live="" if search.worst or search.after else search.address().replace(PATH, f"{PATH}/live", 1),
    )


def bad_first(calls: Sequence[Found]) -> list[tuple[str, list[Found]]]:
    """(title, calls): those that failed or have a poor score, then the others; no titles if there is only one kind."""
    bad, others = [call for call in calls if is_bad(call)], [call for call in calls if not is_bad(call)]
    if not bad or not others:
        return [("", [*bad, *others])]
    return [(f"Not good: {len(bad)} of these {len(calls)}", bad), ("The others", others)]


def is_bad(call: Found) -> bool:
    values = (score["value01"] for score in call["scores"] if not score["repeat"])
    return call["outcome"] in _FAILED or call["status"] >= 400 or any(v is not None and v < POOR for v in values)


def headline(search: CallSearch, facets: Facets) -> str:
    """The list in a sentence: how many calls the filters leave, and how many of them failed."""
    within = f" in the {dict(SPANS)[search.since]}" if search.since in dict(SPANS) and search.since else ""
    if search.words or search.where:
        return f"Calls that meet the conditions{within}"
    outcomes = next((dict(facet.values) for facet in facets.facets if facet.name == "outcome"), {})
    left = {each: n for each, n in outcomes.items() if search.outcome in ("", each)}
    total, failed = sum(left.values()), sum(n for each, n in left.items() if each in _FAILED)
    if not facets.counted:
        return f"No call{within or ' yet'}"
    every = f"{count(facets.counted)} call{'s' * (facets.counted > 1)}"
    every = every if facets.whole else f"the newest {every}"
    head = every if total == facets.counted else f"{count(total)} of {every}"
    rest = "" if search.outcome else f", {count(failed) if failed else 'none'} failed"
    return f"{head[0].upper()}{head[1:]}{within}{rest}"


def _aliases(admin: Admin, facets: Facets) -> list[str]:
    """The model names to choose from; with limited rights, those of the counted calls."""
    if admin.whole is None:
        return list(admin.config().models)
    return [value for facet in facets.facets if facet.name == "alias" for value, _ in facet.values]


def views_of(search: CallSearch, scorers: Sequence[str]) -> list[tuple[str, str]]:
    """(title, address) of the views above the list. Another view is kept as a bookmark of its address."""
    failures = CallSearch(where="outcome!=ok outcome!=client_gone", since="24h")
    found = [
        ("All", CallSearch()),
        ("Failures today", failures),
        ("Slow today", CallSearch(where="total_s>10", since="24h")),
    ]
    found += [(f"Worst by {name}", CallSearch(worst=name)) for name in scorers[:4]]
    found += [("Shadows", CallSearch(role="shadow"))]
    return [(title, view.address()) for title, view in found]


async def live_page(request: Request) -> Response:
    """The tail of the list, as server-sent events. Raises TooManyTails."""
    search = CallSearch.of(request.query_params)
    services, actor = services_of(request), visitor_of(request).actor
    content = actor.content
    tails: LiveTails = services.kept.setdefault("live calls", LiveTails())
    if tails.full:
        raise TooManyTails(f"{LIVE_MOST} people follow the list now; reload the page instead", retry_after_s=30)
    wanted = replace(call_filter(search, services.admin.clock(), content), worst_by="", after=None)
    cookie, proxied = request.cookies.get(COOKIE, ""), proxied_name(request)

    async def permitted() -> bool:
        visitor = None if await request.is_disconnected() else await services.sessions.visitor(cookie, proxied)
        return visitor is not None and visitor.actor == actor

    async def read(filter: CallFilter) -> CallPage:
        try:
            return await services.admin.store.read(lambda connection: list_calls(connection, filter))
        except StoreAway:  # the tail goes on when it is back
            return CallPage((), None)

    def shown(call: Found) -> str:
        return to_html(request, "call_event.html.jinja", call=call, content=content, target=target_text(call))

    tail = LiveTail(wanted, read, shown, permitted, services.admin.clock)
    return StreamingResponse(live_events(tails, tail), media_type="text/event-stream")


def call_filter(search: CallSearch, now: float, content: bool) -> CallFilter:
    """Raises QueryError; ValueError for a time span or a page that does not exist; NotPermitted."""
    node = parse(search.expression) if search.expression else None
    if node is not None and not content:
        refuse_content(node)
    since = now - seconds_of(search.since) if search.since else None
    after = parsed_after(search.after) if search.after else None
    return CallFilter(node, since, None, search.worst, after, texts=content)


def refuse_content(node: Node) -> None:
    """Raises NotPermitted for a condition on what prompts and answers say."""
    searched = {term.field for term in terms(node) if term.sign in ("~", "!~", "<", ">", "<=", ">=")}
    named = sorted({term.field for term in terms(node)} & _CONTENT) or sorted(searched & _MADE_ELSEWHERE)
    if named:
        raise NotPermitted(f"{named[0]}: only people who may read prompts and answers may search in them")


def parsed_after(text: str) -> tuple[float, str]:
    """The place at which a page begins. Raises ValueError."""
    place, _, id = text.partition("~")
    try:
        return float(place), id
    except ValueError:
        raise ValueError(f"after: {text[:60]!r} is not a page of this list") from None


def target_text(call: Found) -> str:
    return str(Target(call["upstream"], call["model"], call.get("variant") or ""))


async def _stored_call(services: PageServices, id: str) -> FullCall:
    found = await services.admin.store.read(lambda connection: full_call(connection, id))
    if found is None:
        raise NotThere(f"no call {id[:60]} is in the store: it was not sampled, is not scored yet, or was deleted")
    return found


async def call_page(request: Request) -> Response:
    services, id = services_of(request), request.path_params["id"]

    found = await _stored_call(services, id)
    content = visitor_of(request).actor.content
    config = services.admin.config()
    return render(
        request,
        "call.html.jinja",
        headline=call_headline(found.call),
        full=found,
        call=readable(found.call),
        content=content,
        target_text=target_text,
        prompt=turns(found.call["request"]) if content else (),
        reference=right_answer(found.call) if content else None,
        sides=sides_of(found) if content else (),
        judged=_judged(found.call) if content else None,
        labelled_by=_labelled_by(found),
        targets=ask_targets(config),
        can_ask=services.evals().base_url is not None and _request_body(found.call) is not None,
    )


def call_headline(call: Found) -> str:
    """The call in a sentence: who answered, how long it took, and which scores are poor."""
    who = f"{shortened(call['alias'], 16)} by {shortened(call['model'], 16)}"
    if call["outcome"] != "ok":
        return f"{who}: {call['outcome'].replace('_', ' ')} after {seconds(call['total_s'])}"
    scored = [s for s in call["scores"] if s["value01"] is not None and not s["repeat"]]
    poor = [shortened(s["scorer"], 11) for s in scored if s["value01"] < POOR]
    more = f" and {len(poor) - 2} more" if len(poor) > 2 else ""
    said = f"; poor: {', '.join(poor[:2])}{more}" if poor else "; no score is poor" if scored else ""
    return f"{who} in {seconds(call['total_s'])}{said}"


@dataclass(frozen=True, slots=True)
class AnswerSides:
    """A pair of answers to one request, compared word by word."""

    other: Found
    """The call that is not the page's own."""
    served_is_own: bool
    left: Sequence[Any]
    right: Sequence[Any]
    scores: Sequence[tuple[str, Found | None, Found | None]]
    """A scorer, with its score of the left and of the right."""
    verdicts: Sequence[Found]


def sides_of(full: FullCall) -> list[AnswerSides]:
    """The served answer on the left, that of an arm on the right."""
    pairs = [(full.call, arm) for arm in full.arms]
    pairs += [(full.served, full.call)] if full.served is not None else []
    scores = {full.call["id"]: full.call["scores"], **full.others}
    found = []
    for served, arm in pairs:
        left, right = side_by_side(answer_text(served), answer_text(arm))
        ours, theirs = (_by_scorer(scores.get(each["id"], ())) for each in (served, arm))
        rows = [(name, ours.get(name), theirs.get(name)) for name in sorted({*ours, *theirs})]
        own = served is full.call
        verdicts = [v for v in full.verdicts if v["exchange_id"] == arm["id"]]
        found.append(AnswerSides(arm if own else served, own, left, right, rows, verdicts))
    return found


def _judged(call: Found) -> AnswerWithReasons:
    """The answer with the reasons of its scorers next to its sentences."""
    reasons = [
        JudgesReason(s["scorer"], s["value"], s["explanation"])
        for s in call["scores"]
        if s["explanation"] and not s["repeat"] and s["kind"] in ("llm", "model")
    ]
    return judged_answer(call["text"] or "", reasons)


def _by_scorer(scores: Sequence[Found]) -> dict[str, Found]:
    return {score["scorer"]: score for score in scores if not score["repeat"]}


def _labelled_by(full: FullCall) -> list[str]:
    """The scorers whose verdict on this call people can check."""
    checked = [s["scorer"] for s in full.call["scores"] if s["value01"] is not None and s["kind"] != "feedback"]
    return list(dict.fromkeys(checked))


async def label_call(request: Request) -> Response:
    form = await form_actor(request, "labeller", "label an answer", content=True)
    id, services = request.path_params["id"], services_of(request)
    verdict = LabelVerdict(verdict_value(form.get("verdict")), form.get("verdict"), form.get("comment")[:4000] or None)
    scorer = form.get("scorer")

    def saving(connection: Transaction) -> None:
        full = full_call(connection, id)
        score = None
        if full is not None and scorer in _labelled_by(full):
            score = _by_scorer(full.call["scores"]).get(scorer)
        if score is None:
            raise NotThere(f'call {id[:60]} has no score of "{scorer[:60]}" that could be checked')
        version = ScorerVersion(scorer, score["version"], score["config_hash"], "exchange", score["direction"])
        label = label_by_hand(version, id, form.actor.name, verdict, services.admin.clock())
        save_labels(connection, [label])

    await services.admin.store.run(saving)
    return redirect(request, f"{PATH}/{id}", f"Labelled {form.get('verdict')} for {scorer}.")


def verdict_value(text: str) -> float:
    """The number of a verdict: good, bad, or a number from 0 to 1. Raises InvalidBody."""
    known = {"good": 1.0, "bad": 0.0}
    try:
        value = known[text] if text in known else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InvalidBody(f"verdict: {text[:30]!r}; expected good, bad or a number from 0 to 1")
    return value


async def replay_call(request: Request) -> Response:
    """Asks targets the recorded request again; nothing of it is recorded."""
    form = await form_actor(request, "operator", "ask a target", content=True)
    id, services = request.path_params["id"], services_of(request)
    call = (await _stored_call(services, id)).call
    body = _request_body(call)
    if body is None:
        raise InvalidBody("the request of this call cannot be sent again: it is not stored whole, or not a JSON object")
    targets = chosen_targets(services.admin.config(), form.all("target"))
    run = new_run(
        form.actor.name, call["api"], body, targets, call=id, recorded=answer_text(call), reference=right_answer(call)
    )
    start_run(services, run)
    return redirect(request, f"{RUNS}/{run.id}")


def _request_body(call: Found) -> dict[str, Any] | None:
    """The body to send again; None if it cannot be sent again."""
    if call["api"] not in PATHS or call["truncated"]:
        return None
    return parse_object(call["request"]) or None


PAGE = Page(
    PATH,
    "Calls",
    (
        PageRoute(PATH, list_page, scoped=True),
        PageRoute(f"{PATH}/live", live_page, scoped=True),
        PageRoute(f"{PATH}/{{id}}", call_page, scoped=True),
        PageRoute(f"{PATH}/{{id}}/label", label_call, ("POST",), "labeller", content=True),
        PageRoute(f"{PATH}/{{id}}/replay", replay_call, ("POST",), "operator", content=True),
    ),
)
