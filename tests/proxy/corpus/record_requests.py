"""Records the requests of OpenAI's and Anthropic's Python libraries, one for each parameter of each method.

    python tests/proxy/corpus/record_requests.py

Writes requests.json next to this file, for test_recorded_requests.py. The values are made from the libraries' own type
hints; nothing is sent. Run it again when a library has new parameters.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import anthropic
import httpx2
import openai
from typing_extensions import get_type_hints, is_typeddict

FILE = Path(__file__).with_name("requests.json")
MODEL, CLAUDE = "alias-at-openai", "alias-at-anthropic"
"""The models of the requests: no other value holds them."""
TEXT = 'Größe "x" \\ 🙂 </p>\n\u2028 1e5'
NUMBERS = (0.7, 1e-07, 100.0)
OF_THE_CALL = frozenset({"extra_headers", "extra_query", "extra_body", "timeout", "model", "stream"})
IN_HEADERS = frozenset({"betas", "user_profile_id", "workspace_id"})
NOT_GIVEN = frozenset({"NoneType", "Omit", "NotGiven"})
UNSENT = frozenset({"host", "authorization", "x-api-key", "api-key", "content-length", "connection", "accept-encoding"})
DEPTH = 5  # below, only required members are made: some types contain themselves
FORMS = 3
"""The most forms of one parameter: some unions have thirty."""

Method = Callable[..., Any]


class Recorder(httpx2.BaseTransport):
    def __init__(self) -> None:
        self.seen: list[httpx2.Request] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        self.seen.append(request)
        return httpx2.Response(200, json={})


def forms(hint: Any, depth: int = 0) -> Iterator[Any]:
    """Values of a type: one for each member of a union."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        for each in inner:
            if getattr(each, "__name__", "") not in NOT_GIVEN:
                yield from forms(each, depth)
    elif origin is Literal:
        yield inner[0]
    elif is_typeddict(hint):
        yield _members(hint, depth)
    elif origin in (dict,) or getattr(origin, "__name__", "") == "Mapping":
        yield {"key": sample(inner[1], depth + 1)}
    elif getattr(origin, "_name", None) in ("Required", "NotRequired", "Annotated"):
        yield from forms(inner[0], depth)
    elif inner and origin is not tuple:  # a sequence, by one of its many names
        yield [sample(inner[0], depth + 1)]
    else:
        yield from _plain(hint)


def _members(hint: Any, depth: int) -> dict[str, Any]:
    wanted = hint.__required_keys__ if depth > DEPTH else get_type_hints(hint)
    hints = get_type_hints(hint)
    return {name: sample(hints[name], depth + 1) for name in hints if name in wanted}


def _plain(hint: Any) -> Iterator[Any]:
    known: dict[Any, Any] = {str: TEXT, int: 7, float: NUMBERS[1], bool: True, object: {"any": [1, None]}}
    if hint in known:
        yield known[hint]


def sample(hint: Any, depth: int = 0) -> Any:
    return next(forms(hint, depth), None)


def calls(method: Method, required: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(what is special, arguments) of each request."""
    hints = get_type_hints(method)
    names = [name for name in inspect.signature(method).parameters if name in hints and name not in OF_THE_CALL]
    yield "plain", required
    files = {name for name, value in required.items() if isinstance(value, tuple)} | {"mask", "markup"}
    if "stream" in hints and files.isdisjoint(required):
        yield "streamed", required | {"stream": True}
    everything = dict(required)
    for name in names:
        if name in files | IN_HEADERS:
            continue
        for number, value in zip(range(FORMS), forms(hints[name]), strict=False):
            yield f"{name} {number}" if number else name, required | {name: value}
            everything.setdefault(name, value)
    yield "everything", everything


CHAT = {"model": MODEL, "messages": [{"role": "user", "content": TEXT}]}
SOUND = ("größe.wav", b"RIFF\r\n--\x00\xff", "audio/wav")
PICTURE = ("p.png", b"\x89PNG\r\n\x1a\n", "image/png")


def methods() -> Iterator[tuple[str, Recorder, Method, dict[str, Any]]]:
    """(name, what records it, method, its required arguments)."""
    recorder = Recorder()
    http = httpx2.Client(transport=recorder)
    of_openai = openai.OpenAI(api_key="k", base_url="http://h/v1", http_client=http, max_retries=0)
    azure = openai.AzureOpenAI(
        api_key="k", azure_endpoint="http://h", api_version="2026-01-01", http_client=http, max_retries=0
    )
    claude = anthropic.Anthropic(api_key="k", base_url="http://h", http_client=http, max_retries=0)
    named = {"model": MODEL}
    for name, method, required in (
        ("chat", of_openai.chat.completions.create, CHAT),
        ("completions", of_openai.completions.create, named | {"prompt": TEXT}),
        ("responses", of_openai.responses.create, named | {"input": TEXT}),
        ("embeddings", of_openai.embeddings.create, named | {"input": TEXT}),
        ("moderations", of_openai.moderations.create, named | {"input": TEXT}),
        ("images", of_openai.images.generate, named | {"prompt": TEXT}),
        ("image edits", of_openai.images.edit, named | {"prompt": TEXT, "image": PICTURE}),
        ("speech", of_openai.audio.speech.create, named | {"input": TEXT, "voice": "alloy"}),
        ("transcriptions", of_openai.audio.transcriptions.create, named | {"file": SOUND}),
        ("translations", of_openai.audio.translations.create, named | {"file": SOUND}),
        ("messages", claude.messages.create, CHAT | {"model": CLAUDE, "max_tokens": 9}),
        ("count tokens", claude.messages.count_tokens, CHAT | {"model": CLAUDE}),
        ("beta messages", claude.beta.messages.create, CHAT | {"model": CLAUDE, "max_tokens": 9}),
        ("Azure", azure.chat.completions.create, CHAT),
    ):
        yield name, recorder, method, required


def main() -> None:
    heads: list[Any] = []
    found = []
    for api, recorder, method, required in methods():
        for special, given in calls(method, required):
            recorder.seen.clear()
            try:
                method(**given)
            except Exception as error:  # the answer is empty; a request that was not made is reported
                if not recorder.seen:
                    print(f"{api}, {special}: not sent: {type(error).__name__}: {error}")  # noqa: T201
            for request in recorder.seen:
                head = [[n, v] for n, v in request.headers.items() if n not in UNSENT]
                if head not in heads:
                    heads.append(head)
                path = request.url.raw_path.decode()
                found.append([f"{api}, {special}", path, heads.index(head), request.content.decode("latin-1")])
    versions = {name: version(name) for name in ("openai", "anthropic")}
    lines = ",\n".join(json.dumps(request) for request in found)
    FILE.write_text(
        f'{{"versions": {json.dumps(versions)},\n"heads": {json.dumps(heads)},\n"requests": [\n{lines}\n]}}\n'
    )
    print(len(found), "requests", FILE.stat().st_size, "bytes")  # noqa: T201


if __name__ == "__main__":
    main()
