"""Both programs on a root they cannot write, as image and manifests run them: /data and /tmp are all they need."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from gateway.up.ports import free_port

# A mount namespace of its own: this machine's root read-only, an empty /tmp, and the test's folder at /mnt.
LOCKED = """
mount --make-rprivate /
mount --bind / "$1"
mount -o remount,bind,ro "$1"
mount --rbind /proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/tmp"
mount --bind "$2" "$1/mnt"
root=$1
shift 2
exec chroot "$root" "$@"
"""


def locked(folder: Path, *words: str) -> list[str]:
    root = folder.parent / "root"
    root.mkdir(exist_ok=True)
    return ["unshare", "--mount", "bash", "-euc", LOCKED, "locked", str(root), str(folder), *words]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for a mount namespace whose other folders are read-only; skipped where none can be made."""
    folder = tmp_path_factory.mktemp("locked") / "mnt"
    folder.mkdir()
    if shutil.which("unshare") is None:
        pytest.skip("no unshare on this machine")
    if subprocess.run(locked(folder, "true"), capture_output=True, check=False).returncode:
        pytest.skip("this user may not make a mount namespace")
    ours = [sys.executable, "-c", "import gateway"]
    if subprocess.run(locked(folder, *ours), capture_output=True, check=False).returncode:
        pytest.skip("this checkout lies below /tmp, which is empty in there")
    return folder


def get(url: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, body, {"content-type": "application/json"})  # noqa: S310 - of this machine
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return bytes(answer.read())


def answers(url: str) -> bytes:
    deadline = time.monotonic() + 40
    while True:
        try:
            return get(url)
        except OSError:
            assert time.monotonic() < deadline, url
            time.sleep(0.05)


@pytest.fixture
def running(folder: Path) -> Iterator[tuple[int, int]]:
    """The ports of a gateway and of the consumer's metrics; the stream server is the embedded one, in /mnt/data."""
    port, metrics, double = (free_port("127.0.0.1", 0) for _ in range(3))
    section = {
        "open": True,
        "upstreams": {"double": {"kind": "fake", "base_url": f"http://127.0.0.1:{double}/v1"}},
        "models": {"chat": {"targets": [{"upstream": "double", "model": "m"}]}},
        "sampling": {"rate": 1.0},
        "scorers": {"length": {}},
        "store": {"url": "sqlite:////mnt/data/gateway.db"},
    }
    (folder / "data").mkdir(exist_ok=True)
    (folder / "gateway.yaml").write_text(yaml.safe_dump(section))
    both = ["--config", "/mnt/gateway.yaml", "--data", "/mnt/data"]
    ours = [sys.executable, "-m", "gateway"]
    commands = [
        [*ours, "fake", "--port", str(double)],
        [*ours, "serve", *both, "--port", str(port), "--workers", "2"],
        [*ours, "evaluate", *both, "--metrics-port", str(metrics)],
    ]
    started = [subprocess.Popen(locked(folder, *words), stderr=subprocess.DEVNULL) for words in commands]
    yield port, metrics
    for process in reversed(started):
        process.terminate()
    for process in started:
        assert process.wait(40) in (0, -15, 143)


def test_nothing_is_written_but_to_data_and_tmp(running: tuple[int, int], folder: Path) -> None:
    port, metrics = running
    answers(f"http://127.0.0.1:{port}/health")
    answers(f"http://127.0.0.1:{metrics}/metrics")
    asked = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}).encode()
    deadline = time.monotonic() + 40
    while b"gateway_eval_scores_total{" not in get(f"http://127.0.0.1:{metrics}/metrics"):
        assert b"token" in get(f"http://127.0.0.1:{port}/v1/chat/completions", asked)
        assert time.monotonic() < deadline, "an answer is scored"
        time.sleep(0.1)
    assert (folder / "data" / "gateway.db").exists()
    tried = subprocess.run(locked(folder, "touch", "/etc/x"), capture_output=True, text=True, check=False)
    assert "Read-only file system" in tried.stderr
