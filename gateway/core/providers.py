"""The kinds of upstreams: `PROVIDERS`, read from providers.toml, which has one table for each.

A table gives the provider's base URL, the environment variable that usually holds its key, and where its API departs
from OpenAI's. An upstream in gateway.yaml can override each of these.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

DialectName = Literal[
    "openai", "azure", "anthropic", "vertex_anthropic", "bedrock_anthropic", "bedrock_converse", "gemini"
]
CHATS: frozenset[DialectName] = frozenset({"openai", "azure"})
"""Dialects in which an upstream gets chats as OpenAI's clients send them."""
IN_BLOCKS: frozenset[DialectName] = frozenset(
    {"anthropic", "vertex_anthropic", "bedrock_anthropic", "bedrock_converse"}
)
"""Dialects with Anthropic's form of messages, or one that is nearly the same."""
Load = Literal["orca", "scrape", "none"]
ResponsesApi = Literal["native", "chat"]
DecisionFormat = Literal["openai", "systemone", "sglang"]
"""OpenAI's Decisions API, System One's, or SGLang's own."""
DecisionReading = Literal["native", "slot", "words", "letters", "structured"]
"""The way in which an alias answers decisions: `native` passes them to its upstream, all others read a chat engine
(core/decision_reads.py)."""
ONE_HOT_READING = "structured-only"
"""The reading that answers name whose text was taken as certain: 1 and 0, without log-probabilities."""


@dataclass(frozen=True, slots=True)
class Provider:
    kind: str  # as in gateway.yaml
    title: str  # for people
    dialect: DialectName = "openai"
    base_url: str | None = None  # with its version path; None if the config must give one
    key_env: str | None = None  # the environment variable that usually holds its key
    ports: tuple[int, ...] = ()  # where a local server of this kind usually listens
    health: str | None = None  # a path that costs nothing, relative to the origin; None: no active health checks
    load: Load = "none"  # how it reports its load
    stream_usage: Literal["ask", "never"] = "ask"  # "never": it does not understand `stream_options.include_usage`
    responses: ResponsesApi = "native"  # "chat": it has no Responses API, and gets those requests as chats
    decisions: DecisionFormat | None = None  # the format in which it takes decisions; None: it has no such API
    decisions_path: str = ""  # of that API, after base_url without its "/v1"; "": the format's own, as clients send it
    prompt_logprobs: bool = False  # it gives log-probabilities of a prompt's tokens, as vLLM does
    seed: bool = True  # it accepts `seed`; a provider that does not refuses unknown members
    prefill: bool = False  # it continues a last assistant message if the request asks for that
    cloud: bool = False  # it needs a cloud's credentials (`auth`) where it has no key
    sigv4_service: str = "bedrock"  # that AWS's signatures name
    priced_as: str = ""  # the kind whose list prices hold for it, too; "": its own
    otel_name: str = ""  # its `gen_ai.provider.name` in OpenTelemetry's conventions
    quirk: str = ""  # for the documentation

    @property
    def local(self) -> bool:
        """Whether it runs on the user's own machines: its key is then optional, and its tokens have no price."""
        return self.key_env is None and not self.cloud


def _rows() -> dict[str, dict[str, Any]]:
    return tomllib.loads((files("gateway.core") / "providers.toml").read_text("utf-8"))


PROVIDERS: dict[str, Provider] = {
    kind: Provider(kind, **{**row, "ports": tuple(row.get("ports", ()))}) for kind, row in _rows().items()
}
