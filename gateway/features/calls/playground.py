"""The playground: one prompt to several targets side by side, and replays of a call, through the gateway.

A run and its answers stay in the memory of this process, the newest ten of each person and the newest fifty of all;
nothing of it is recorded or sampled. Each answer arrives in a task of its own, and is a document of its own that the
browser shows piece by piece while it is written, without any script, and again afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
from markupsafe import escape
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.config.config import Config
from gateway.config.derive import outside_egress, prices_of, refs_of_model, target_of
from gateway.config.scorers import EvalsConfig, ScorerConfig
from gateway.console.errors import InvalidBody, NotThere
from gateway.console.filters import visible
from gateway.console.forms import Form, form_actor
from gateway.console.frame import (
    RUNS,
    Page,
    PageRoute,
    PageServices,
    redirect,
    render,
    services_of,
    to_html,
    visitor_of,
)
from gateway.consumer.entry_scoring import EntryScorer
from gateway.core.completion import Completion, assemble
from gateway.core.conversation import turns
from gateway.core.errors import ConfigError
from gateway.core.exchange import Exchange, Target, Usage, new_id
from gateway.core.json_values import as_decimal
from gateway.core.score import ScoreResult
from gateway.core.sse import events
from gateway.reports.text_diff import side_by_side
from gateway.scoring.asker import ExternalServices
from gateway.scoring.http_client import GatewayClient, HttpConnections, StreamedReply, Unreachable
from gateway.scoring.registry import DEFAULTS, RegisteredScorer, build_all
from gateway.scoring.threads import ScoringThreads

log = logging.getLogger(__name__)

MOST_RUNS, MOST_OF_ONE, MOST_TARGETS = 50, 10, 6
DEADLINE_S = 120.0
MOST_BYTES = 1 << 20  # of one answer
PATHS: Mapping[str, str] = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "responses": "/responses",
    "messages": "/messages",
}
_STREAMED = ("chat", "completions")
_QUICK = (
    "valid_json json_schema tool_calls refusal repetition truncation length latency cost contains regex secrets exact "
    "f1 number choice json_equal rouge_l edit_distance"
)
"""Rules that need nothing but the answer, and score it at once."""


@dataclass(frozen=True, slots=True)
class AskTarget:
    """A model as clients name it, or one of its targets."""

    alias: str
    target: str = ""
    """The target as "upstream/model"; "" if the gateway chooses."""

    @property
    def value(self) -> str:
        return f"{self.alias}|{self.target}"

    @property
    def title(self) -> str:
        return f"{self.alias} → {self.target}" if self.target else self.alias

    @property
    def headers(self) -> dict[str, str]:
        return {"x-gateway-target": self.target} if self.target else {}


def ask_targets(config: Config) -> list[AskTarget]:
    """Every model, and below each one its targets."""
    found = []
    for alias, model in config.models.items():
        found.append(AskTarget(alias))
        targets = dict.fromkeys(str(target_of(ref)) for ref in refs_of_model(config, model))
        found += [AskTarget(alias, target) for target in targets]
    return found


def chosen_targets(config: Config, values: Sequence[str]) -> list[AskTarget]:
    """Raises InvalidBody."""
    known = {target.value: target for target in ask_targets(config)}
    unknown = [value for value in values if value not in known]
    if unknown:
        raise InvalidBody(f"targets: {unknown[0][:80]!r} is not a target of this gateway")
    if not 1 <= len(set(values)) <= MOST_TARGETS:
        raise InvalidBody(f"targets: choose from one to {MOST_TARGETS}; {len(set(values))} are chosen")
    return [known[value] for value in dict.fromkeys(values)]


@dataclass(slots=True)
class AskAnswer:
    """The answer of one target, while it arrives and afterwards."""

    target: AskTarget
    text: str = ""
    done: bool = False
    error: str = ""
    """The reason why there is no answer; "" if there is one."""
    completion: Completion = field(default_factory=Completion)
    by: Target | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    seconds: float | None = None
    first_s: float | None = None
    scores: Sequence[ScoreResult] = ()
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def _say(self, text: str = "", *, done: bool = False) -> None:
        async with self.changed:
            self.text += text
            self.done = self.done or done
            self.changed.notify_all()

    async def pieces(self) -> AsyncIterator[str]:
        """Yields the text received so far, then each part as it arrives; ends with the answer."""
        shown = 0
        while True:
            async with self.changed:
                while not self.done and len(self.text) <= shown:
                    await self.changed.wait()
                new, done = self.text[shown:], self.done
            shown += len(new)
            if new:
                yield new
            if done and shown >= len(self.text):
                return


@dataclass(slots=True)
class AskRun:
    """A request to several targets."""

    id: str
    owner: str
    """The name of the person who asked: nobody else sees it."""
    api: str
    body: Mapping[str, Any]
    answers: list[AskAnswer]
    call: str = ""
    """The recorded call whose request it is; "": none."""
    recorded: str | None = None
    """The answer that was recorded."""
    reference: str | None = None

    @property
    def done(self) -> bool:
        return all(answer.done for answer in self.answers)

    async def wait(self) -> None:
        for answer in self.answers:
            async with answer.changed:
                while not answer.done:
                    await answer.changed.wait()


def start_run(services: PageServices, run: AskRun) -> None:
    """Keeps the run, and starts to ask. The person's own oldest runs are dropped first."""
    runs: OrderedDict[str, AskRun] = services.kept.setdefault("runs", OrderedDict())
    runs[run.id] = run
    own = [each.id for each in runs.values() if each.owner == run.owner]
    for id in own[:-MOST_OF_ONE]:
        del runs[id]
    while len(runs) > MOST_RUNS:
        runs.popitem(last=False)
    titles = ", ".join(answer.target.title for answer in run.answers)
    log.info("admin: %s asks %s, for a page of the console", ascii(run.owner)[1:-1], titles)
    for answer in run.answers:
        services.tasks.start(_ask(services, run, answer), f"ask {answer.target.title}")


def new_run(owner: str, api: str, body: Mapping[str, Any], targets: Sequence[AskTarget], **more: Any) -> AskRun:
    return AskRun(secrets.token_urlsafe(12), owner, api, body, [AskAnswer(target) for target in targets], **more)


def find_run(services: PageServices, id: str, owner: str) -> AskRun:
    """Raises NotThere."""
    run: AskRun | None = services.kept.get("runs", {}).get(id)
    if run is None or run.owner != owner:
        raise NotThere("these answers are no longer kept: ask again")
    return run


async def _ask(services: PageServices, run: AskRun, answer: AskAnswer) -> None:
    try:
        await _receive(services.evals(), run, answer)
        if not answer.error:
            config = services.admin.config()
            answer.cost_usd = prices_of(config).cost(answer.by, answer.usage) if answer.by else None
            answer.scores = await _scores(services, run, answer)
    except Unreachable as error:
        answer.error = str(error)
    except Exception as error:
        answer.error = f"{type(error).__name__}: {error}"
        raise
    finally:
        await answer._say(done=True)


async def _receive(evals: EvalsConfig, run: AskRun, answer: AskAnswer) -> None:
    """Raises Unreachable."""
    if evals.base_url is None:
        answer.error = (
            "the gateway's address is unknown: set `evals: {base_url: …, api_key: …}` in gateway.yaml, with a key that "
            "has `sample: never` and `allow: [target]`"
        )
        return
    streamed = run.api in _STREAMED
    body = {**run.body, "model": answer.target.alias, "stream": streamed}
    if streamed:
        body["stream_options"] = {"include_usage": True}
    else:
        body.pop("stream_options", None)
    client = GatewayClient(evals.base_url, evals.api_key)
    began = time.monotonic()
    async with client.streaming(
        PATHS[run.api], body, deadline_s=DEADLINE_S, headers=answer.target.headers, most_bytes=MOST_BYTES
    ) as reply:
        whole = await _read(reply, run.api, answer, began)
        answer.seconds = time.monotonic() - began
        final = reply.reply(whole, answer.seconds)
    answer.by = final.target
    is_stream = "event-stream" in reply.headers.get("content-type", "")
    answer.completion = assemble(run.api, is_stream, whole)
    answer.usage = answer.completion.usage or final.usage
    if reply.status >= 400 or answer.completion.error is not None:
        answer.error = f"HTTP {reply.status}: {answer.completion.error or whole[:200].decode('utf-8', 'replace')}"
    elif not is_stream:
        await answer._say(answer.completion.text)


async def _read(reply: StreamedReply, api: str, answer: AskAnswer, began: float) -> bytes:
    """Reads the whole body. The text of a stream is handed on while it arrives."""
    whole, waiting = bytearray(), b""
    shown = reply.status < 400 and api in _STREAMED and "event-stream" in reply.headers.get("content-type", "")
    async for piece in reply.pieces():
        whole += piece
        if not shown:
            continue
        waiting += piece
        complete = list(events(waiting))
        block = b"".join(event.raw for event in complete)
        waiting = waiting[len(block) :]
        text = assemble(api, True, block).text if block else ""
        if text:
            answer.first_s = answer.first_s or time.monotonic() - began
            await answer._say(text)
    return bytes(whole)


async def _scores(services: PageServices, run: AskRun, answer: AskAnswer) -> Sequence[ScoreResult]:
    """Scores by the configured rules that answer at once; judges are not asked."""
    scorers, scoring = _scoring(services)
    exchange = Exchange(
        id=new_id(),
        received=time.time(),
        caller="playground",
        api=run.api,
        alias=answer.target.alias,
        target=answer.by or Target("", answer.target.alias),
        stream=False,
        request=orjson.dumps(run.body),
        response=orjson.dumps(answer.completion),
        form="assembled",
        status=200,
        outcome="ok",
        total_s=answer.seconds or 0.0,
        unit=run.id,
        u=0.0,
        pi=1.0,
        stratum="playground",
        incarnation="playground",
        seq=0,
        usage=answer.usage,
        first_token_s=answer.first_s,
        reference=run.reference,
    )
    return await scoring.score_again(exchange, scorers.keys())


def _scoring(services: PageServices) -> tuple[Mapping[str, RegisteredScorer], EntryScorer]:
    """The scorers of the playground, rebuilt when the config has changed."""
    config = services.admin.config()
    digest, scoring = services.kept.get("scoring", (None, None))
    if scoring is None or digest != config.digest:
        scorers = quick_scorers(config, services)
        scoring = (scorers, EntryScorer(scorers, ScoringThreads(), prices_of(config)))
        services.kept["scoring"] = (config.digest, scoring)
    found: tuple[Mapping[str, RegisteredScorer], EntryScorer] = scoring
    return found


def quick_scorers(config: Config, services: PageServices) -> dict[str, RegisteredScorer]:
    """Builds the scorers that answer at once. One that cannot be built is left out: the consumer reports it."""
    sections = config.scorers or {name: ScorerConfig() for name in DEFAULTS}
    outside = ExternalServices(HttpConnections(egress=outside_egress(config)), directory=services.config_path.parent)
    found: dict[str, RegisteredScorer] = {}
    for name, section in sections.items():
        if (section.use or name) not in _QUICK.split() or section.isolate:
            continue
        try:
            built = build_all({name: section}, outside)
        except ConfigError:
            continue
        found |= {n: replace(s, share=1.0) for n, s in built.single.items() if not s.scorer.heavy}
    return found


PATH = "/console/playground"
MAX_DATASET_BYTES = 64 << 20
_SET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
_PIECE_BREAK = "<!-- -->"


async def show_form(request: Request) -> Response:
    services = services_of(request)
    ready = services.evals().base_url is not None
    return render(request, "playground.html.jinja", targets=ask_targets(services.admin.config()), ready=ready)


async def ask(request: Request) -> Response:
    form = await form_actor(request, "operator", "ask a target", content=True)
    services = services_of(request)
    targets = chosen_targets(services.admin.config(), form.all("target"))
    run = new_run(form.actor.name, "chat", body_of(form), targets, reference=form.get("reference") or None)
    start_run(services, run)
    if not form.checked("stream"):
        await run.wait()
    return redirect(request, f"{RUNS}/{run.id}")


def body_of(form: Form) -> dict[str, Any]:
    """The request of the form. Raises InvalidBody."""
    prompt = "\n".join(form.all("prompt")[-1:])
    if not prompt.strip():
        raise InvalidBody("prompt: it is empty")
    system = form.get("system")
    messages = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": prompt}]
    body: dict[str, Any] = {"messages": messages}
    for name, kind, low, high in (("temperature", float, 0, 2), ("max_tokens", int, 1, 1_000_000)):
        if given := form.get(name):
            try:
                body[name] = kind(given)
            except ValueError:
                raise InvalidBody(f"{name}: {given[:30]!r} is not a number") from None
            if not low <= body[name] <= high:
                raise InvalidBody(f"{name}: {given[:30]!r} is not between {low} and {high}")
    return body


async def show_run(request: Request) -> Response:
    """The answers with their scores once all are there; before, each in a frame of its own."""
    run = _run(request)
    texts = [(run.recorded, "recorded answer")] if run.recorded is not None else []
    texts += [(each.text, each.target.title) for each in run.answers if run.done and not each.error]
    names = sorted({score.scorer for each in run.answers for score in each.scores})
    diffs = [(*side_by_side(a[0], b[0]), a[1], b[1]) for a, b in pairwise(texts)] if run.done else []
    scores = [{s.scorer: s for s in each.scores} for each in run.answers]
    prompt = turns(orjson.dumps(run.body))
    shown: dict[str, Any] = {
        "run": run,
        "prompt": prompt,
        "diffs": diffs,
        "scorers": names,
        "scores": scores,
        "runs": RUNS,
    }
    return render(request, "run.html.jinja", **shown)


def _run(request: Request) -> AskRun:
    return find_run(services_of(request), request.path_params["id"], visitor_of(request).actor.name)


async def show_answer(request: Request) -> Response:
    """Shows one answer, as a document for a frame."""
    run, at = _run(request), request.path_params["at"]
    if not 0 <= at < len(run.answers):
        raise NotThere("there is no such answer")
    answer = run.answers[at]
    begin, _ = to_html(request, "answer.html.jinja", answer=answer, run=run, runs=RUNS).split(_PIECE_BREAK)

    async def pieces() -> AsyncIterator[str]:
        yield begin
        async for piece in answer.pieces():
            yield str(escape(visible(piece)))
        done = to_html(request, "answer.html.jinja", answer=answer, run=run, runs=RUNS).split(_PIECE_BREAK)
        yield done[1]

    return StreamingResponse(pieces(), media_type="text/html")


async def save_row(request: Request) -> Response:
    """Appends the request, with a right answer if one was chosen, to a dataset in the data directory."""
    form = await form_actor(request, "operator", "save a dataset row", content=True)
    run = find_run(services_of(request), request.path_params["id"], form.actor.name)
    name = form.get("dataset", "playground")
    if _SET_NAME.fullmatch(name) is None:
        raise InvalidBody(f"dataset: {name[:60]!r}; expected letters, digits, - and _")
    row = dataset_row(run, form)
    folder = services_of(request).data / "datasets"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{name}.jsonl"
    if path.exists() and path.stat().st_size > MAX_DATASET_BYTES:
        raise InvalidBody(f"{path.name} is larger than {MAX_DATASET_BYTES >> 20} MB: choose another name")
    await asyncio.to_thread(_append, path, orjson.dumps(row) + b"\n")
    return redirect(request, f"{RUNS}/{run.id}", f"Saved as a row of {path}: gateway replay reads it.")


def _append(path: Path, line: bytes) -> None:
    """Appends with one write, so that rows of two processes do not mix."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def dataset_row(run: AskRun, form: Form) -> dict[str, Any]:
    """The row as `gateway replay` reads it: the messages, other members of the request, and a reference. Raises
    InvalidBody."""
    row: dict[str, Any] = {
        "api": run.api,
        "request": {k: v for k, v in run.body.items() if k not in ("model", "stream")},
    }
    chosen = form.get("right")
    if chosen == "own":
        row["reference"] = "\n".join(form.all("reference")[-1:]).strip()
    elif chosen == "recorded" and run.recorded is not None:
        row["reference"] = run.recorded
    elif (place := as_decimal(chosen)) is not None and place < len(run.answers):
        row["reference"] = run.answers[place].text
    elif chosen:
        raise InvalidBody(f"right: {chosen[:30]!r} is not one of these answers")
    return row


PAGE = Page(
    PATH,
    "Playground",
    (
        PageRoute(PATH, show_form, role="operator", content=True),
        PageRoute(PATH, ask, ("POST",), "operator", content=True),
        PageRoute(f"{RUNS}/{{id}}", show_run, role="operator", content=True),
        PageRoute(f"{RUNS}/{{id}}/answers/{{at:int}}", show_answer, role="operator", content=True),
        PageRoute(f"{RUNS}/{{id}}/save", save_row, ("POST",), "operator", content=True),
    ),
    role="operator",
    content=True,
)
