"""The whole of it, small: two workers, a stream server, a consumer, doubles of upstreams and judges, and a real
Prometheus that scrapes them and evaluates the real alert rules."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
import redis
import yaml
from fixtures.learned_routes import ROUTE, a_route
from fixtures.program_command import gateway_command, program_pid

from gateway.config.derive import plan_of
from gateway.config.loading import load
from gateway.core.learned_route import RouteTarget
from gateway.fake import FakeUpstream
from gateway.proxy.routing.assignment import arm_of, running
from gateway.stream.shard import GROUP

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 300.0  # for a state that takes about a second on an idle machine
SCRAPE_S = 3  # what a program may take to show its page, and Prometheus allows no more than the interval
STREAM = "whole:exchanges"
KEY, EVALS_KEY, PRIVATE_KEY = "sk-web-key", "sk-evals-key", "sk-private-key"
HOOK_SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()
NEAR_KEY, SPENT_KEY, ADMIN_TOKEN = "sk-near-key", "sk-spent-key", "an-admin-token"
POOR_KEY, AGENT_KEY = "sk-poor-key", "sk-agent-key"
POOR = {"usd_per_month": 1000, "carried": {"usd_per_month": {"amount": 600, "until": "2099-01-01T00:00:00Z"}}}
SHORTER = {  # else it takes two minutes, or three killed workers
    "gateway_eval_shown_age_seconds) > 120": "gateway_eval_shown_age_seconds) > 2",
    "gateway_eval_worker_restarts[30m])) > 2": "gateway_eval_worker_restarts[30m])) > 0.2",
    "gateway_directory_age_seconds) > 300": "gateway_directory_age_seconds) > 1",
    "interval: 1m\n": "interval: 1s\n",
    "interval: 15m\n": "interval: 1s\n",
    "[31m]": "[20s]",  # three evaluations are to lie in it, also where a busy machine misses most
}

Json = dict[str, Any]
Call = tuple[str, bytes, str, str]
"""Path, body, key, further header lines."""


async def until(holds: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> None:
    """holds: a truth, or an awaitable of one."""
    end = time.monotonic() + timeout_s
    while True:
        found = holds()
        if await found if isinstance(found, Awaitable) else found:
            return
        if time.monotonic() > end:
            raise TimeoutError(what)
        await asyncio.sleep(0.25)  # what is asked costs all programs time, which they are to work in


class Wire:
    """One connection to the gateway, as lean as a client can be: thousands of calls take seconds."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, path: str, body: bytes, key: str = KEY, more: str = "") -> tuple[int, bytes]:
        """Asks once more where the gateway has closed the connection meanwhile, as it does with one that is idle."""
        kept = self._reader is not None
        try:
            return await self._ask(path, body, key, more)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            if not kept or getattr(error, "partial", b""):
                raise
            self.close()
        return await self._ask(path, body, key, more)

    async def _ask(self, path: str, body: bytes, key: str, more: str) -> tuple[int, bytes]:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = f"POST {path} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n"
        self._writer.write(f"{head}{more}\r\n".encode() + body)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: (\d+)", answer)
        if length is not None:
            body = await self._reader.readexactly(int(length[1]))
        else:
            body = b""
            while not body.endswith(b"0\r\n\r\n"):
                body += await self._reader.readuntil(b"\r\n")
        if b"connection: close" in answer:
            self.close()
        return int(answer.split(b" ", 2)[1]), body

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


class Program:
    """One program of the package. log: what it says."""

    def __init__(self, directory: Path, name: str, *words: str) -> None:
        self.log, self.words, self._cwd = directory / f"{name}.log", words, directory
        self._process: asyncio.subprocess.Process | None = None

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    async def start(self, *command: str) -> None:
        words = command or gateway_command(*self.words)
        environ = {**os.environ, "TMPDIR": str(self._cwd)}
        with self.log.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                *words, cwd=self._cwd, env=environ, stdout=out, stderr=out
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return program_pid(self._process.pid)

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), 60)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        self._process = None


def config(doubles: dict[str, FakeUpstream], stream: str, ports: list[int]) -> Json:
    upstreams: Json = {name: {"kind": "vllm", "base_url": double.base_url} for name, double in doubles.items()}
    upstreams["denying"]["health_check"] = {"interval_s": 0.2, "failures": 2}
    upstreams["mute"] = {**upstreams["good"], "stream_usage": "never"}
    upstreams["narrow"] = {**upstreams["slow"], "concurrency": 1, "queue_s": 500}
    to = {name: {"upstream": name, "model": "m"} for name in upstreams}
    to["big"] = {"upstream": "good", "model": "big"}

    prices: Json = {name: {"input": 1000, "output": 2000} for name in upstreams if name != "unpriced"}
    prices["judge"] = {"input": 20, "output": 40}

    def alias(name: str, **more: Any) -> Json:
        return {"targets": [to[name]], "retries": {"attempts": 1, "backoff_s": 0}, **more}

    def retiring(name: str, days: int) -> Json:
        day = datetime.now(UTC).date() + timedelta(days=days)
        return {**alias(name), "targets": [{**to[name], "retires": day.isoformat()}]}

    return {
        "keys": [
            {"name": "web", "sha256": sha256(KEY.encode()).hexdigest(), "allow": ["sample", "target"]},
            {"name": "evals", "sha256": sha256(EVALS_KEY.encode()).hexdigest(), "sample": "never"},
            {"name": "private", "sha256": sha256(PRIVATE_KEY.encode()).hexdigest(), "content": "redacted"},
            {"name": "near", "sha256": sha256(NEAR_KEY.encode()).hexdigest(), "team": "near"},
            {"name": "spent", "sha256": sha256(SPENT_KEY.encode()).hexdigest(), "team": "spent"},
            {"name": "poor", "sha256": sha256(POOR_KEY.encode()).hexdigest(), "limits": POOR},
            {"name": "agent", "sha256": sha256(AGENT_KEY.encode()).hexdigest(), "limits": {"per_run": {"calls": 1}}},
        ],
        "teams": {
            "near": {"limits": {"requests_per_month": 50, "requests_per_minute": 1000}},
            "spent": {"limits": {"requests_per_month": 2}},
        },
        "admin": {"tokens": [{"name": "ada", "sha256": sha256(ADMIN_TOKEN.encode()).hexdigest(), "role": "owner"}]},
        "upstreams": upstreams,
        "models": {
            "chat": alias("good"),
            "cut": alias("cutting", fallback=[to["good"]], on_cut="continue"),
            "broken": alias("broken"),
            "queued": alias("narrow", timeouts={"first_token_s": 500}),  # its streams are held while much happens
            "denied": alias("denying"),
            "unpriced": alias("unpriced"),
            "judge": alias("judge"),
            "read": alias("read", decisions={"reading": "slot", "probed": "2026-12-03", "both_orders": 1.0}),
            "split": {**alias("good"), "targets": [to["good"]]},
            "liked": retiring("good", 45),
            "tight": retiring("good", 20),
            "mute": retiring("mute", 3),
            "ramped": alias("good"),
            "many": alias("good"),
            "support": {**alias("good"), "targets": [to["good"], to["big"]], "score_objectives": {"valid_json": 0.9}},
            "code": {**alias("big"), "score_objectives": {"valid_json": 0.9}},
            "routed": {"targets": [{"route": ROUTE}]},
            "tiered": alias("good", fallback=[{**to["worse"], "on": ["budget"]}]),
        },
        "tags": {"keys": ["feature"]},
        "budgets": {"tier_down_at": 0.5},
        "webhooks": {"ops": {"url": "http://127.0.0.1:9/hook", "secret": HOOK_SECRET}},
        "sampling": {"rate": 0.5, "rules": [{"when": {"outcome": "error"}, "rate": 1.0, "name": "errors"}]},
        "stream": {"url": stream, "name": "whole", "buffer_mb": 0.4, "max_mb": 1, "claim_idle_s": 600},
        "metrics": {"bind": f"127.0.0.1:{ports[0]}"},
        "evals": {"base_url": f"http://127.0.0.1:{ports[3]}/v1", "api_key": EVALS_KEY},
        "redaction": {"default": "full"},
        "prices": {
            "as_of": "2026-11-01",
            "models": {f"{name}/m": price for name, price in prices.items()},
            "gpu_seconds": {"m": {"input": 10, "output": 200}},
        },
        "scorers": {
            "valid_json": {},
            "length": {},
            "helpful": {"use": "judge", "model": "judge", "budget_usd": 1.2, "share": 0.5},
            "denied": {"use": "judge", "model": "unpriced", "budget_usd": 1, "share": 0.3},
            "run_finished": {},
        },
        "decisions": {"certificates": {"auto": {"scorer": "helpful"}}},
        "guards": {
            "mails": {"on": "request", "scorer": "personal_data"},
            "late": {"on": "answer", "scorer": "tools", "tools": {"forbid": ["shell"]}, "deadline_ms": 0.001},
        },
        "runs": {"quiet_s": 1},
        "feedback": {"range": {"thumb": [0, 1]}},
        "predictor": {"target": "valid_json", "min_rows": 50},
        "experiments": {
            "swap": {
                "model": "chat", "control": to["good"], "candidate": to["worse"], "shadow": 1.0, "repeat_control": 0.5,
                "primary": "valid_json", "margin": 0.5, "guardrails": {"error_rate": 0.5}, "method": "anytime",
                "after_verdict": "continue", "min_hours": 0,
                "budget": {"usd_per_day": 2, "concurrency": 64}, "gate": {"latency": False, "load": None},
            },
            "halves": {
                "model": "split", "control": to["good"], "candidate": to["worse"], "mode": "split", "split": 0.5,
                "unit": "user", "primary": "valid_json", "margin": 0.5,
            },
            "liked": {  # people's thumbs decide
                "model": "liked", "control": to["good"], "candidate": to["worse"], "mode": "split", "split": 0.5,
                "primary": "feedback:thumb", "margin": 0.5, "feedback_window_s": 1,
            },
            "ramped": {
                "model": "ramped", "control": to["good"], "candidate": to["worse"], "primary": "valid_json",
                "ramp": {"steps": [0.5, 1.0], "soak_s": 3600},
            },
            "tight": {  # the primary is at its margin, and the guardrail's is small: both stay open
                "model": "tight", "control": to["good"], "candidate": to["worse"], "shadow": 1.0, "method": "anytime",
                "primary": "valid_json", "margin": 1.0, "guardrails": {"completion": 0.001},
                "budget": {"concurrency": 64}, "gate": {"latency": False, "load": None},
            },
            "many": {
                "model": "many", "control": to["good"], "candidates": {"worse": to["worse"], "mute": to["mute"]},
                "family": "best", "primary": "valid_json", "margin": 0.5, "shadow": 1.0, "min_hours": 0,
                "budget": {"concurrency": 64}, "gate": {"latency": False, "load": None},
            },
        },
    }  # fmt: skip


def route() -> bytes:
    """A route that moves all requests but code from `good` to `worse`."""
    good, worse = RouteTarget("good", "m"), RouteTarget("worse", "m")
    return a_route(alias="routed", control=good, moved=worse).to_json()


class Whole:
    """Everything, running. doubles: by upstream; queries of Prometheus by HTTP."""

    def __init__(self, directory: Path, doubles: dict[str, FakeUpstream], stream: Any, ports: list[int]) -> None:
        self.directory, self.doubles, self.stream, self.ports = directory, doubles, stream, ports
        self.config_path = directory / "gateway.yaml"
        self.port = ports[3]
        self.gateway = Program(
            directory, "serve", "serve", "--config", "gateway.yaml", "--port", str(ports[3]), "--workers", "2"
        )
        self.consumer = Program(
            directory, "evaluate",
            "evaluate", "--config", "gateway.yaml", "--metrics-port", str(ports[1]), "--data", "data",
        )  # fmt: skip
        self.console = Program(
            directory, "console",
            "console", "--config", "gateway.yaml", "--port", str(ports[5]), "--data", "console",
        )  # fmt: skip
        self.prometheus = Program(directory, "prometheus")
        self.client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{ports[2]}", timeout=PATIENCE_S)
        self.wires = [Wire(self.port) for _ in range(16)]
        self.spare = [Wire(self.port) for _ in range(4)]
        self.until = until
        self.moments: list[dict[str, str]] = []
        """Pages of the programs at several moments, by Prometheus's job."""

    async def start(self) -> None:
        self.config_path.write_text(yaml.safe_dump(config(self.doubles, self.stream.url, self.ports)))
        (self.directory / f"gateway.route.{ROUTE}.json").write_bytes(route())
        self._an_old_entry()
        await self.gateway.start()
        await self.consumer.start()
        await self.console.start()
        self._write_prometheus()
        await self.prometheus.start(
            "prometheus", f"--config.file={self.directory}/prometheus.yml",
            f"--storage.tsdb.path={self.directory}/tsdb",
            f"--web.listen-address=127.0.0.1:{self.ports[2]}", "--log.level=warn",
        )  # fmt: skip
        try:
            await until(self.seen, "Prometheus does not see two workers, a consumer and a console")
        except TimeoutError as error:
            error.add_note(self.output)
            raise

    def write_config(self, text: str) -> None:
        """Changes gateway.yaml at once: a worker that saw it half written would read it twice."""
        written = self.config_path.with_suffix(".new")
        written.write_text(text)
        written.replace(self.config_path)

    def _an_old_entry(self) -> None:
        """A consumer took an entry an hour ago, and died since."""
        server = self.redis()
        hour_ago = int((time.time() - 3600) * 1000)
        server.xadd(STREAM, {"kind": "unknown"}, id=f"{hour_ago}-0")
        server.xgroup_create(STREAM, GROUP, id="0")
        server.xreadgroup(GROUP, "dead", {STREAM: ">"})

    async def seen(self) -> bool:
        try:
            ready = await self.value(
                "sum(gateway_workers) + sum(gateway_eval_consumers) + count(gateway_directory_unpublished)"
            )
        except (httpx2.TransportError, ValueError):
            return False
        return ready == 4

    @property
    def _jobs(self) -> dict[str, int]:
        """The ports of the programs, by Prometheus's job."""
        return {"gateway": self.ports[0], "consumer": self.ports[1], "console": self.ports[5]}

    def _write_prometheus(self) -> None:
        """The rules as they are shipped, without their waiting times."""
        rules = (ROOT / "grafana" / "alerts" / "gateway.yml").read_text("utf-8")
        rules = re.sub(r"\n +for: \w+", "", rules)
        for long, short in SHORTER.items():
            assert long in rules
            rules = rules.replace(long, short)
        (self.directory / "rules.yml").write_text(rules)
        # A neighbour that runs another config; nothing else of it is scraped.
        neighbour = f"127.0.0.1:{self.ports[4]}"
        jobs = [
            {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
            for name, port in self._jobs.items()
        ]
        jobs.append({"job_name": "neighbour", "static_configs": [{"targets": [neighbour]}]})
        scrape = f"{SCRAPE_S}s"
        often = {"scrape_interval": scrape, "scrape_timeout": scrape, "evaluation_interval": "1s"}
        settings = {"global": often, "rule_files": ["rules.yml"], "scrape_configs": jobs}
        (self.directory / "prometheus.yml").write_text(yaml.safe_dump(settings))

    async def stop(self) -> None:
        for wire in (*self.wires, *self.spare):
            wire.close()
        await self.client.aclose()
        for program in (self.gateway, self.consumer, self.console, self.prometheus):
            await program.stop()

    @property
    def output(self) -> str:
        """The end of each program's log."""
        return "\n".join(p.output[-3000:] for p in (self.gateway, self.consumer, self.console, self.prometheus))

    @property
    def workers(self) -> list[int]:
        """The process ids of the gateway's workers."""
        children = Path(f"/proc/{self.gateway.pid}/task/{self.gateway.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]

    @contextmanager
    def workers_paused(self) -> Iterator[None]:
        """No worker of the gateway answers anything."""
        workers = self.workers
        assert len(workers) == 2
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)

    @contextmanager
    def paused(self, program: Program) -> Iterator[None]:
        """Stops a program for a time: nothing of it is lost."""
        os.kill(program.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(program.pid, signal.SIGCONT)

    def call(self, model: str, *, key: str = KEY, always: bool = False, **fields: Any) -> Call:
        """always: it is recorded in any case, without sampling."""
        body = {"model": model, "messages": [{"role": "user", "content": "Say it."}], **fields}
        more = "x-gateway-sample: always\r\n" if always else ""
        return "/v1/chat/completions", json.dumps(body).encode(), key, more

    async def load(self, n: int, model: str = "chat", **fields: Any) -> list[int]:
        """n calls, sixteen at a time; their statuses."""
        return await self.spread([self.call(model, **fields)] * n)

    async def worse_answers(self, n: int = 6) -> None:
        """n answers for each of two aliases at one model, and of two models at one upstream; those of `support` at the
        model `big` are worse."""
        good = self.doubles["good"]
        for alias, model, said in (("support", "big", "no JSON"), ("support", "m", "{}"), ("code", "big", "{}")):
            path, body, key, more = self.call(alias, always=True, response_format={"type": "json_object"})
            good.says(said)
            more += f"x-gateway-target: good/{model}\r\n"
            assert set(await self.spread([(path, body, key, more)] * n)) == {200}
        good.says('{"ok": ', "true}")

    async def an_objective_is_missed(self) -> None:
        """Asks for as many worse answers as let the alert ring. Prometheus does not see the first count of a series, so
        they come once its rules have counts; should some be lost, they are asked for again."""
        await self.worse_answers()
        for name in ("weight", "weighted_sum", "sizes", "products", "squares"):
            await self.until_value(f"count(gateway:score_objective_{name})", lambda n: n == 3)
        enough = "count(increase(gateway:score_objective_weight[1h]) > 31)"
        for last in (False, False, True):
            await self.worse_answers(40)
            try:
                await self.until_value(enough, lambda n: n == 3, timeout_s=PATIENCE_S if last else 60)
            except TimeoutError:
                if last:
                    raise
            else:
                return

    async def rated(self, n: int) -> None:
        """n calls of a split, one after the other, and a thumb for each but every third."""
        headers = {"authorization": f"Bearer {KEY}"}
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=PATIENCE_S
        ) as client:
            for i in range(n):
                path, body, _, _ = self.call("liked")
                answer = await client.post(path, content=body)
                assert answer.status_code == 200, answer.text
                if i % 3:
                    thumb = {"id": answer.headers["x-request-id"], "name": "thumb", "value": i % 2 == 0}
                    assert (await client.post("/v1/feedback", json=thumb)).status_code in (200, 202)

    def of_arm(self, arm: str, users: Iterable[str]) -> list[str]:
        """The users whom the plan of the experiment `halves` deals this arm."""
        settings = load(self.config_path).experiments["halves"]
        dealt = running(plan_of("halves", settings, 600.0), settings, secret=self.secret())
        return [user for user in users if arm_of(dealt, user) == arm]

    def secret(self) -> bytes:
        """The secret that keys draws, as the consumer put it on the stream server."""
        return bytes.fromhex(self.redis().get("whole:draw-secret").decode())

    async def spread(self, calls: Sequence[Call]) -> list[int]:
        found: list[int] = []
        waiting = iter(calls)

        async def through(wire: Wire) -> None:
            for call in waiting:
                found.append((await wire.ask(*call))[0])

        await asyncio.gather(*map(through, self.wires))
        return found

    async def admin(self, method: str, path: str, token: str = ADMIN_TOKEN, **body: Any) -> httpx2.Response:
        """The answer of the admin API. path: below /admin/v1."""
        url = f"http://127.0.0.1:{self.ports[5]}/admin/v1{path}"
        headers = {"authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(timeout=PATIENCE_S) as client:
            return await client.request(method, url, json=body or None, headers=headers)

    async def query(self, promql: str) -> list[Json]:
        reply = (await self.client.get("/api/v1/query", params={"query": promql})).json()
        assert reply["status"] == "success", f"{reply.get('error')}: {promql}"
        found: list[Json] = reply["data"]["result"]
        return found

    async def history(self, promql: str, since: float) -> list[Json]:
        """Values of a metric at each scrape, from a moment (Unix seconds) until now: a rate of one minute may be over
        by now.
        """
        span = {"query": promql, "start": since, "end": time.time(), "step": SCRAPE_S - 1}
        reply = (await self.client.get("/api/v1/query_range", params=span)).json()
        assert reply["status"] == "success", f"{reply.get('error')}: {promql}"
        found: list[Json] = reply["data"]["result"]
        return found

    async def value(self, promql: str) -> float:
        """The greatest value; NaN where there is none."""
        return max((float(each["value"][1]) for each in await self.query(promql)), default=float("nan"))

    async def until_value(
        self, promql: str, holds: Callable[[float], bool], what: str = "", timeout_s: float = PATIENCE_S
    ) -> None:
        async def there() -> bool:
            return holds(await self.value(promql))

        try:
            await until(there, what or promql, timeout_s)
        except TimeoutError as error:
            error.add_note(f"{promql} is {await self.value(promql)}")
            raise

    async def keep_pages(self) -> None:
        """Adds this moment to those that are kept."""
        pages = {}
        async with httpx2.AsyncClient(timeout=PATIENCE_S) as client:
            for job, port in self._jobs.items():
                answer = await client.get(f"http://127.0.0.1:{port}/metrics")
                assert answer.status_code == 200, job
                pages[job] = answer.text
        self.moments.append(pages)

    async def scrapes(self) -> str:
        """The state of Prometheus's targets."""
        targets = (await self.client.get("/api/v1/targets")).json()["data"]["activeTargets"]
        return "; ".join(
            f"{t['labels']['job']} {t['health']} {t['lastError']} {t['lastScrapeDuration']}" for t in targets
        )

    def redis(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.stream.socket))


async def another_config(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A /metrics page with a config hash that is nobody else's."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close\r\n\r\n"
        writer.write(head + b"gateway_config_hash 1\n")
        await writer.drain()
    writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole(stream_server_type: Any, servers: Any) -> AsyncIterator[Whole]:
    """A gateway, a consumer and a console in front of nine doubles, scraped by a real Prometheus with the
    repository's alert rules."""
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus is not installed (Debian: apt-get install prometheus)")
    directory = Path(tempfile.mkdtemp(prefix="gw"))
    stream = stream_server_type(directory)
    stream.start()
    async with AsyncExitStack() as stack:
        names = ("good", "worse", "cutting", "broken", "denying", "slow", "unpriced", "judge", "read")
        doubles = {name: await stack.enter_async_context(FakeUpstream(model="m", remember=False)) for name in names}
        running = Whole(directory, doubles, stream, servers.free_ports(6))
        neighbour = await asyncio.start_server(another_config, "127.0.0.1", running.ports[4])
        stack.push_async_callback(neighbour.wait_closed)
        stack.callback(neighbour.close)
        try:
            await running.start()
            yield running
        finally:
            await running.stop()
            stream.kill()
            shutil.rmtree(directory, ignore_errors=True)
