"""The playground: one prompt to several targets side by side. Each answer is a document of its own that arrives piece
by piece, so that the browser shows it while it is written, without any script.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
from markupsafe import escape
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.console.errors import InvalidBody, NotThere
from gateway.console.forms import Form, form_actor
from gateway.console.frame import RUNS, Page, PageRoute, redirect, render, services_of, to_html, visitor_of
from gateway.console.visible import visible
from gateway.core.conversation import turns
from gateway.features.calls.asking import AskRun, ask_targets, chosen_targets, find_run, new_run, start_run
from gateway.reports.text_diff import side_by_side

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
    return render(
        request, "run.html.jinja", run=run, prompt=turns(orjson.dumps(run.body)), diffs=diffs, scorers=names,
        scores=[{s.scorer: s for s in each.scores} for each in run.answers], runs=RUNS,
    )  # fmt: skip


def _run(request: Request) -> AskRun:
    return find_run(services_of(request), request.path_params["id"], visitor_of(request).actor.name)


async def show_answer(request: Request) -> Response:
    """One answer, as a document for a frame."""
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
    """By one write, so that rows of two processes do not mix."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def dataset_row(run: AskRun, form: Form) -> dict[str, Any]:
    """As `gateway replay` reads it: the messages, other members of the request, and a reference. Raises InvalidBody."""
    row: dict[str, Any] = {
        "api": run.api,
        "request": {k: v for k, v in run.body.items() if k not in ("model", "stream")},
    }
    chosen = form.get("right")
    if chosen == "own":
        row["reference"] = "\n".join(form.all("reference")[-1:]).strip()
    elif chosen == "recorded" and run.recorded is not None:
        row["reference"] = run.recorded
    elif chosen.isdigit() and int(chosen) < len(run.answers):
        row["reference"] = run.answers[int(chosen)].text
    elif chosen:
        raise InvalidBody(f"right: {chosen[:30]!r} is no answer of these")
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
