"""Discovered upstreams → the text of a gateway.yaml: commented, with ${NAME} for keys, never with a secret."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template

from gateway.up.discovery import DiscoveredUpstream
from gateway.up.engines import SMOLLM2

TEMPLATES = ("drop-in", "team", "evaluation", "agents")
MAX_MODELS = 20  # of one upstream; a comment says how to add the others
LOCAL = "local"

# Models in a provider's list that do not answer chat requests.
_NO_CHAT = re.compile(
    r"embed|whisper|tts|dall-e|image|moderation|audio|realtime|transcri|davinci|babbage|sora|rerank|ocr|speech|guard",
    re.IGNORECASE,
)
# Valid as an alias and as a target's model, which appear in headers; a star would make it a wildcard.
_NAME = re.compile(r"(?:(?![{}*\"\\])[!-~]){1,200}")

_HEAD = """\
# Written by `gateway up` from what it found. Change it as you like: it is never overwritten.
# `gateway check {name}` reports every mistake. Unknown keys are errors; ${{NAME}} reads the environment.

keys:                         # callers: the SHA-256 of each key
  - {{name: up, sha256: "{digest}"}}   # the key itself: {key_file}

upstreams:                    # servers that requests can go to
"""

_TAIL = """
sampling:
  rate: 1.0                   # share of the traffic that is recorded and scored

scorers:                      # what is measured on each recorded answer
  valid_json: {}
  json_schema: {}
  tool_calls: {}
  refusal: {}
  repetition: {}
  truncation: {}
  length: {}
  latency: {}
"""


def offers(found: DiscoveredUpstream) -> list[str]:
    """The models that get an alias: chat models whose name is valid in a gateway.yaml."""
    models = dict.fromkeys(found.models)
    return [m for m in models if _NAME.fullmatch(m) and not _NO_CHAT.search(m)]


def needs_local(found: Sequence[DiscoveredUpstream]) -> bool:
    """Tells whether no upstream offers a model, so that `gateway up` starts a local one."""
    return not any(offers(each) for each in found)


def names(found: Sequence[DiscoveredUpstream]) -> list[str]:
    """A name for each upstream: its kind, with the port if several have the same kind."""
    kinds = Counter(each.provider.kind for each in found)
    return [f"{f.provider.kind}-{f.port}" if kinds[f.provider.kind] > 1 and f.port else f.provider.kind for f in found]


@dataclass(frozen=True, slots=True)
class StarterFile:
    name: str = "gateway.yaml"
    template: str = ""
    """One of TEMPLATES; "" means that every call is recorded and scored by the default scorers."""


def gateway_yaml(
    found: Sequence[DiscoveredUpstream], digest: str, key_file: str, file: StarterFile | None = None
) -> str:
    """Writes the config. digest: SHA-256 of the key that `gateway up` made. key_file: its place, for a comment."""
    file = file or StarterFile()
    named = list(zip(names(found), found, strict=True))
    lines = [_HEAD.format(digest=digest, key_file=key_file, name=file.name)]
    lines += [line for each in named for line in _upstream(*each)]
    if needs_local(found):
        lines += [
            f"  {LOCAL}:                      # `gateway up` starts llama.cpp with this model, on a free port\n"
            "    kind: llamacpp\n"
            f"    run: {{engine: llamacpp, model: {SMOLLM2}}}   # or the path of a .gguf file\n"
        ]
    lines += ["\nmodels:                       # model names that clients may use\n"]
    lines += _models(named)
    return "".join([*lines, _templated(named, file.template) if file.template else _TAIL])


def _templated(named: Sequence[tuple[str, DiscoveredUpstream]], template: str) -> str:
    """The template's sections: the first two models are the control and the candidate.

    One model alone is compared with itself at temperature 0.
    """
    served = [(name, model) for name, each in named for model in offers(each)[:MAX_MODELS]] or [(LOCAL, SMOLLM2)]
    control, candidate = (_target(*served[0]), _target(*served[1 % len(served)]))
    if len(served) == 1:
        candidate = f"{candidate[:-1]}, set: {{temperature: 0}}}}"
    text = files(__package__).joinpath("templates", f"{template}.yaml").read_text(encoding="utf-8")
    return Template(text).substitute(alias=json.dumps(served[0][1]), control=control, candidate=candidate)


def _target(upstream: str, model: str) -> str:
    return f"{{upstream: {upstream}, model: {json.dumps(model)}}}"


def _upstream(name: str, found: DiscoveredUpstream) -> Iterator[str]:
    if found.port is None:
        yield f'  {name}: {{kind: {found.provider.kind}, api_key: "${{{found.provider.key_env}}}"}}\n'
        return
    comment = "# " if found.trouble else ""
    key = ', api_key: "${NAME}"' if found.trouble else ""
    if found.trouble:
        yield f"  # On port {found.port} a server answers, but {found.trouble}.\n"
    yield f'  {comment}{name}: {{kind: {found.provider.kind}, base_url: "http://127.0.0.1:{found.port}/v1"{key}}}\n'


def _models(named: Sequence[tuple[str, DiscoveredUpstream]]) -> Iterator[str]:
    taken: set[str] = set()
    for name, found in named:
        offered = offers(found)
        for model in offered[:MAX_MODELS]:
            alias = f"{name}/{model}" if model in taken else model
            if alias not in taken:
                taken.add(alias)
                yield _model(alias, name, model)
        if len(offered) > MAX_MODELS:
            yield f"  # {name} has {len(offered) - MAX_MODELS} more; add the ones you want in the same way.\n"
        if found.trouble and found.port is None:
            trouble = "".join(c if c.isprintable() else " " for c in found.trouble)[:200]
            yield f"  # {name} did not list its models ({trouble}). Add yours like this:\n"
            yield f"  # MODEL: {{targets: [{{upstream: {name}, model: MODEL}}]}}\n"
    if not taken:
        yield _model(SMOLLM2, LOCAL, SMOLLM2)


def _model(alias: str, upstream: str, model: str) -> str:
    """A name as a JSON string, which is valid YAML: names come from servers and may contain anything."""
    return f"  {json.dumps(alias)}: {{targets: [{_target(upstream, model)}]}}\n"
