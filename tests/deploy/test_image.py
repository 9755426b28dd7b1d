"""The image, built for real and run as it is shipped: `make image-test`.

Without a registry: debootstrap makes a Debian with Python that stands for the base image, buildah builds the shipped
Dockerfile on it, and podman runs it with runc. Root's rights and the Debian packages buildah, podman, runc, catatonit
and debootstrap are needed, and kustomize for the second part.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from servers import Node, free_ports, programs

from gateway.fake import FakeUpstream

ROOT = Path(__file__).parents[2]
BASE = "docker.io/library/python:3.12-slim"
IMAGE = "localhost/assay-gateway:0.1.0"
MOST_MB = 250.0
LARGEST = "du -k -d 6 /app | sort -rn | head -60; find /app -type f -size +1000k -exec ls -l {} +"
KEY = "key-of-the-image-test"
NEEDED = ("debootstrap", "buildah", "podman", "runc")

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]


def run(*words: str | Path, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False, **more)
    assert not check or done.returncode == 0, (
        f"{' '.join(map(str, words))}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    )
    return done


@dataclass(frozen=True)
class Containers:
    """Runs buildah and podman with a storage of their own."""

    folder: Path

    def _storage(self, program: str) -> list[str]:
        place = ["--root", str(self.folder / "storage"), "--runroot", str(self.folder / "run")]
        return [program, *place, "--storage-driver", "vfs"]

    def buildah(self, *words: str | Path) -> str:
        return run(*self._storage("buildah"), *words).stdout.strip()

    def podman(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        conf = self.folder / "containers.conf"
        conf.write_text(f'[containers]\ndefault_ulimits = ["nofile={FILES}:{FILES}"]\n')
        environ = {**os.environ, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1", "CONTAINERS_CONF_OVERRIDE": str(conf)}
        engine = ["--cgroup-manager=cgroupfs", "--runtime", "runc"]
        return run(*self._storage("podman"), *engine, *words, check=check, env=environ)

    def megabytes(self, image: str) -> float:
        return float(self.podman("image", "inspect", "--format", "{{.Size}}", image).stdout) / 1e6


FILES = min(20_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """Containers of the built image; skipped where the tools or root's rights are missing."""
    missing = [name for name in NEEDED if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; apt-get install -y {' '.join(NEEDED)} catatonit")
    if os.geteuid() != 0:
        pytest.skip("debootstrap and the storage need root")
    found = Containers(tmp_path_factory.mktemp("containers"))
    yield found
    found.podman("rm", "--all", "--force", "--time", "1", check=False)
    run(*found._storage("buildah"), "rm", "--all", check=False)
    shutil.rmtree(found.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def image(containers: Containers, capfd_off: Callable[[str], None]) -> str:
    """The shipped Dockerfile's image."""
    rootfs = containers.folder / "rootfs"
    packages = "python3,python3-venv,python3-pip,ca-certificates"
    started = time.monotonic()
    made = run("debootstrap", "--variant=minbase", f"--include={packages}", "trixie", rootfs, check=False)
    if made.returncode:
        pytest.skip(f"debootstrap cannot reach a Debian mirror: {made.stdout.strip().splitlines()[-1:]}")
    (rootfs / "usr/bin/python").symlink_to("python3")
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", rootfs / "etc/ssl/certs/ca-certificates.crt")
    base_s = time.monotonic() - started
    scratch = containers.buildah("from", "scratch")
    containers.buildah("add", "-q", scratch, rootfs, "/")
    containers.buildah("commit", "-q", "--rm", scratch, BASE)
    shutil.rmtree(rootfs)
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    started = time.monotonic()
    containers.buildah(
        "bud", "--isolation", "chroot", "--network", "host", "--pull-never", "--format", "docker",
        "--ulimit", f"nofile={FILES}:{FILES}", "--ulimit", f"nproc={soft}:{hard}",
        "-f", ROOT / "deploy" / "Dockerfile", "--ignorefile", ROOT / "deploy" / "Dockerfile.dockerignore",
        "-t", IMAGE, ROOT,
    )  # fmt: skip
    built_s = time.monotonic() - started
    size, base = containers.megabytes(IMAGE), containers.megabytes(BASE)
    capfd_off(
        f"image {size:.0f} MB, {size - base:.0f} MB over its base of {base:.0f} MB; base made in {base_s:.0f} s, built "
        f"in {built_s:.0f} s"
    )
    assert size - base <= MOST_MB, containers.podman("run", "--rm", "--entrypoint", "sh", IMAGE, "-c", LARGEST).stdout
    return IMAGE


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[str]:
    """A stream server that containers on the host's network reach."""
    server = Node(str(programs()["valkey"]), free_ports(1)[0], tmp_path / "stream").start()
    yield server.url
    server.kill()


PASSWORD = "password-of-the-stream-server"


@pytest.fixture
def locked(stream: str) -> str:
    """The same with a password, as the manifests have it."""
    import redis

    with redis.Redis.from_url(stream) as client:
        client.config_set("requirepass", PASSWORD)
    return stream


@pytest.fixture(scope="module")
def capfd_off(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Prints a line past pytest's capture."""
    manager = request.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with manager.global_and_fixture_disabled():
            print(f"\n{line}")  # noqa: T201

    return say


def get(url: str, body: Any = None, key: str | None = KEY) -> tuple[int, bytes]:
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def until(holds: Callable[[], Any], what: str, patience_s: float = 120.0) -> None:
    ends = time.monotonic() + patience_s
    while True:
        try:
            if holds():
                return
        except (OSError, ValueError):
            pass
        assert time.monotonic() < ends, what
        time.sleep(0.2)


CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}


async def asked(port: int) -> tuple[int, bytes]:
    import asyncio

    return await asyncio.to_thread(get, f"http://127.0.0.1:{port}/v1/chat/completions", CHAT)


HARDENED = (
    "--network", "host", "--cap-drop", "ALL", "--read-only", "--tmpfs", "/tmp", "--security-opt", "seccomp=unconfined",  # noqa: S108
    "--security-opt", "no-new-privileges", "--ulimit", f"nofile={FILES}:{FILES}",
)  # fmt: skip


async def test_gateway_and_consumer_run_with_nothing_but_what_they_need(
    containers: Containers, image: str, stream: str, tmp_path: Path
) -> None:
    import asyncio

    port, metrics = free_ports(2)
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, 10001, 10001)
    async with FakeUpstream() as upstream:
        config = tmp_path / "gateway.yaml"
        config.write_text(yaml.safe_dump({
            "keys": [{"name": "web", "sha256": sha256(KEY.encode()).hexdigest()}],
            "upstreams": {"a": {"kind": "openai", "base_url": upstream.base_url}},
            "models": {"chat": {"targets": [{"upstream": "a", "model": "m"}]}},
            "scorers": {"length": {}}, "sampling": {"rate": 1.0},
            "stream": {"url": stream},
        }))  # fmt: skip
        config.chmod(0o644)
        mounts = ("-v", f"{config}:/etc/gateway/gateway.yaml:ro", "-v", f"{data}:/data")
        file = ("--config", "/etc/gateway/gateway.yaml")
        serve = ("serve", *file, "--port", str(port), "--workers", "2")
        evaluate = ("evaluate", *file, "--metrics-port", str(metrics))
        for name, words in (("gateway", serve), ("consumer", evaluate)):
            containers.podman("run", "-d", "--name", name, *HARDENED, *mounts, image, *words)
        await asyncio.to_thread(until, lambda: get(f"http://127.0.0.1:{port}/health")[0] == 200, "the gateway")
        status, body = await asked(port)
        assert status == 200, body
        assert b"Hello from the fake upstream." in body
        scored = "gateway_eval_scores_total{"

        def is_scored() -> bool:
            text = get(f"http://127.0.0.1:{metrics}/metrics")[1].decode()
            return any(line.startswith(scored) and not line.endswith(" 0.0") for line in text.splitlines())

        await asyncio.to_thread(until, is_scored, "the consumer")
        for name in ("gateway", "consumer"):
            inside = containers.podman("exec", name, "python", "-c", PRIVILEGES).stdout
            assert json.loads(inside) == {"uid": 10001, "caps": 0, "root": "read-only", "no_new_privs": 1}, name
        for name in ("consumer", "gateway"):
            stopped = time.monotonic()
            containers.podman("stop", "--time", "30", name)
            assert time.monotonic() - stopped < 29, "it was not killed"
            code = containers.podman("inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip()
            assert code == "0", containers.podman("logs", name).stderr
            containers.podman("rm", name)


PRIVILEGES = """
import json, os
status = dict(line.split(":", 1) for line in open("/proc/1/status") if ":" in line)
try:
    open("/app/x", "w"); root = "writable"
except OSError:
    root = "read-only"
print(json.dumps({"uid": os.getuid(), "caps": int(status["CapEff"], 16), "root": root,
                  "no_new_privs": int(status["NoNewPrivs"])}))
"""


@pytest.mark.parametrize("program", ["modules", "extras"])
def test_nothing_needs_the_trimmed_files(program: str, containers: Containers, image: str) -> None:
    """Each module of the package is imported in the image, and each extra that it has does its work there."""
    text = (Path(__file__).parent / "in_image" / f"{program}.py").read_text()
    done = containers.podman("run", "--rm", "--entrypoint", "python", *HARDENED, image, "-c", text, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert done.stdout.splitlines()[-1] == "all"


def test_the_extras_that_are_tried_are_those_of_the_image() -> None:
    given = re.search(r"^ARG EXTRAS=(\S+)$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    assert given is not None
    tried = re.findall(r"^def (\w+)\(", (Path(__file__).parent / "in_image" / "extras.py").read_text(), re.MULTILINE)
    assert {*given[1].split(","), "always"} == set(tried)


@pytest.fixture(params=["kustomize", "helm"])
def base(request: pytest.FixtureRequest, render_chart: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> str:
    """The manifests of the base: as kustomize builds them, and as Helm renders them with the chart's own values."""
    if request.param == "helm":
        [files] = render_chart([{}])["answers"]
        return "\n---\n".join(text for path, text in files.items() if not path.endswith("NOTES.txt"))
    if shutil.which("kustomize") is None:
        pytest.skip("not installed: kustomize")
    return run("kustomize", "build", ROOT / "deploy" / "kubernetes" / "base").stdout


async def test_the_kubernetes_base_runs_in_pods(
    containers: Containers, image: str, locked: str, base: str, tmp_path: Path
) -> None:
    import asyncio

    async with FakeUpstream() as upstream:
        http, metrics, scores = ports = free_ports(3)
        manifests = played(base, upstream.base_url, locked, ports, tmp_path)
        containers.podman("kube", "play", "--network", "host", manifests)
        try:
            await asyncio.to_thread(
                until, lambda: get(f"http://127.0.0.1:{http}/health")[0] == 200, "the gateway's pod"
            )
            status, body = await asked(http)
            assert status == 200, body
            assert get(f"http://127.0.0.1:{http}/v1/models", key="another")[0] == 401
            assert (await asyncio.to_thread(get, f"http://127.0.0.1:{metrics}/metrics", None, None))[0] == 200
            await asyncio.to_thread(
                until, lambda: get(f"http://127.0.0.1:{scores}/metrics", key=None)[0] == 200, "the consumer's pod"
            )
            names = containers.podman("ps", "--format", "{{.Names}}").stdout.split()
            for part in ("gateway-pod-gateway", "consumer-pod-consumer"):
                (name,) = [each for each in names if each == part]
                inside = json.loads(containers.podman("exec", name, "python", "-c", PRIVILEGES).stdout)
                assert (inside["uid"], inside["caps"], inside["root"]) == (10001, 0, "read-only")
        finally:
            containers.podman("kube", "down", manifests, check=False)


def played(built: str, upstream: str, stream: str, ports: list[int], folder: Path) -> Path:
    """The shipped base, with what podman plays: its Deployments of gateway and consumer, its ConfigMap. Only addresses
    and ports are changed there, as the pods share the host's; the secrets are made here."""
    for shipped, free in zip((8000, 9100, 9101), ports, strict=True):
        built = re.sub(rf"\b{shipped}\b", str(free), built)
    parts = []
    for each in filter(None, yaml.safe_load_all(built)):
        each["metadata"].pop("namespace", None)  # podman has none
        if each["kind"] == "ConfigMap":
            config = yaml.safe_load(each["data"]["gateway.yaml"])
            config["upstreams"]["openai"]["base_url"] = upstream
            each["data"]["gateway.yaml"] = yaml.safe_dump(config)
            parts.append(each)
        elif each["kind"] == "Deployment" and each["metadata"]["name"] in ("gateway", "consumer"):
            pod = each["spec"]["template"]["spec"]
            pod["securityContext"].pop("seccompProfile", None)  # not every kernel here has it
            for container in (*pod["containers"], *pod.get("initContainers", ())):
                container["image"], container["imagePullPolicy"] = IMAGE, "Never"
            parts.append(each)
    zeros = "0" * 64
    secrets = {
        "gateway": {
            "STREAM_URL": stream,
            "REDIS_PASSWORD": PASSWORD,
            "STORE_URL": "sqlite:////data/gateway.db",
            "ADMIN_TOKEN_SHA256": zeros,
        },
        "gateway-upstreams": {"WEB_KEY_SHA256": sha256(KEY.encode()).hexdigest(), "OPENAI_API_KEY": "sk-none"},
    }
    for secret, values in secrets.items():
        parts.append({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}, "stringData": values})
    file = folder / "base.yaml"
    file.write_text(yaml.safe_dump_all(sorted(parts, key=lambda each: each["kind"] == "Deployment")))
    return file
