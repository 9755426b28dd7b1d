"""The section `upstreams` of gateway.yaml: where requests can go, and model servers that `gateway up` starts itself."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from gateway.config.types import Positive, Section, Url
from gateway.core.providers import VENDORS, Load, Provider

Word = Annotated[str, Field(min_length=1)]


class EngineRun(Section):
    """`gateway up` starts this upstream itself, on a free port of this machine; `gateway serve` does not.

    engine: llama.cpp or vLLM; the same word as the upstream's kind. model: for llamacpp smollm2 or the path of a .gguf
    file; for vllm a name of the hub or a folder. name: what requests call it; None: smollm2, the file's or folder's
    own name, the name of the hub. command: how the engine's program is called, where it is not the one installed
    beside the gateway: [/opt/vllm/bin/vllm], [llama-server]. args: what it is told besides. environ: variables that it
    gets besides ours, from which vendors' keys are left out. ready_s: how long its start may take; None: 120 for
    llamacpp, 900 for vllm, which may have to fetch and compile.
    """

    engine: Literal["llamacpp", "vllm"]
    model: Word = "smollm2"
    name: Annotated[str, Field(pattern=r"^[\x21-\x7e]+$", max_length=300)] | None = None
    command: Annotated[tuple[Word, ...], Field(min_length=1)] | None = None
    args: tuple[str, ...] = ()
    environ: dict[Word, str] = Field({})
    ready_s: Positive | None = None

    @model_validator(mode="after")
    def _told_to_somebody(self) -> Self:
        if self.engine == "vllm" and "model" not in self.model_fields_set:
            raise ValueError("model: missing; vllm runs a model of the hub or of a folder, not the packaged smollm2")
        if self.engine == "llamacpp" and self.args and self.command is None:
            raise ValueError("args are for a program of yours; name it: command: [llama-server]")
        return self


class Upstream(Section):
    """Where requests can go. What is left out comes from what is known of its kind (docs/engines.md).

    kind: whose server it is: openai, vllm, ollama, anthropic, azure, … base_url: with its version path. run: started by
    `gateway up`. api_key: sent as this kind wants it. headers: sent besides. api_version: of Azure. ca_file: of who
    signed its certificate. proxy: on the way out to it; HTTPS_PROXY is not read. http2: for upstreams that gain by it.
    transport: http1, the lean one, or httpx, which http2 and proxy need. concurrency: calls at once, in each process;
    None: without bound. queue, queue_s: how many may wait beyond that, and how long. load: how it tells its load: in
    answers' headers (orca), in its /metrics (scrape), or not. priority: it takes `priority`, and shadows stand behind
    everybody. prefill: it continues a last assistant message, so that cut streams can go on there. stream_usage:
    whether it is asked for usage on streams. health: a path of its root that costs nothing.
    """

    kind: str
    base_url: Url | None = None
    run: EngineRun | None = None
    api_key: str | None = None
    headers: dict[str, str] = Field({})
    api_version: str | None = None
    ca_file: str | None = None
    proxy: str | None = None
    http2: bool = False
    transport: Literal["http1", "httpx"] | None = None
    concurrency: Annotated[int, Field(gt=0)] | None = None
    queue: Annotated[int, Field(ge=0)] = 64
    queue_s: Positive = 5.0
    load: Load | None = None
    priority: bool = False
    prefill: bool | None = None
    stream_usage: Literal["ask", "never"] | None = None
    health: str | None = None

    @property
    def vendor(self) -> Provider:
        return VENDORS[self.kind]

    @property
    def url(self) -> str:
        return (self.base_url or self.vendor.base_url or "").rstrip("/")

    @property
    def continues_prefill(self) -> bool:
        return self.vendor.prefill if self.prefill is None else self.prefill

    @property
    def asks_usage(self) -> bool:
        return (self.stream_usage or self.vendor.stream_usage) == "ask"

    @model_validator(mode="after")
    def _carried(self) -> Self:
        if self.transport == "http1" and (self.http2 or self.proxy):
            raise ValueError("transport: http1 knows neither HTTP/2 nor a proxy; leave transport out, or say httpx")
        return self

    @property
    def carried(self) -> str:
        """How requests get there, for people: "http1", "httpx (HTTP/2, by proxy.example:3128)"."""
        proxy = urlsplit(self.proxy).netloc.rpartition("@")[2] if self.proxy else ""
        ways = [*(["HTTP/2"] if self.http2 else []), *([f"by {proxy}"] if proxy else [])]
        return f"{self.wire} ({', '.join(ways)})" if ways else self.wire

    @property
    def wire(self) -> Literal["http1", "httpx"]:
        """httpx for what the lean transport cannot do: HTTP/2 and an outbound proxy."""
        return self.transport or ("httpx" if self.http2 or self.proxy else "http1")
