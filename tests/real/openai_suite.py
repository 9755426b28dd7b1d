"""openai-python's own tests of its resources, directly against a mock and through a gateway: which differ?

    python tests/real/openai_suite.py [--package openai==VERSION] [--keep FOLDER] [--only tests/api_resources/chat …]
                                      [--unsealed]

The tests are those of the source distribution on PyPI, unchanged. They run in an environment of their own, twice: with
TEST_API_BASE_URL at the mock (openai_mock.py), and at a `gateway serve` in front of it, whose one alias `*` serves
every model and whose `passthrough` serves the paths that name none. One difference is meant: an id of a stored response
that the gateway has not sealed does not exist for any caller; `--unsealed` sets `responses: {seal: false}`, and then it
does. openai-node's package on npm has no tests.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
KEYS = {"tests": "My API Key", "admin": "My Admin API Key"}
"""Keys of the tests."""
NEEDS = ("pytest", "pytest-asyncio", "pytest-timeout", "rich", "dirty-equals", "pillow", "inline-snapshot", "respx")
MEANT = re.compile(r'404 - response "[^"]*" does not exist')
# Of APIs whose `model` OpenAI does not require.
DEFAULTS = {"moderations": "omni-moderation", "responses": "gpt-x", "images": "gpt-image"}


def prepared(package: str, folder: Path) -> tuple[Path, Path]:
    """(python of an environment with the library, the folder of its tests)."""
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", package.replace("openai", "openai[aiohttp]", 1), *NEEDS], check=True)
    subprocess.run([*pip, "download", "--no-deps", "--no-binary", "openai", "-d", str(folder), package], check=True)
    archive = next(folder.glob("openai-*.tar.gz"))
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return python, next(folder.glob("openai-*/tests"))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def running(*argv: str, url: str, log: Path) -> Iterator[None]:
    """A program that answers at the URL."""
    with log.open("wb") as out, subprocess.Popen(argv, stdout=out, stderr=out) as process:
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(url, timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield
        finally:
            process.terminate()


def run_tests(python: Path, tests: Path, only: list[str], base_url: str, mock: str) -> dict[str, str]:
    """The outcome of each test."""
    report = tests.parent / "report.xml"
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI_")}
    environ |= {"TEST_API_BASE_URL": base_url, "OPENAI_MOCK": mock, "PYTHONPATH": str(HERE)}
    words = [
        "-q",
        "-x",
        "--maxfail=100000",
        "--timeout=60",
        "-p",
        "openai_mock",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=",
    ]
    subprocess.run(
        [str(python), "-m", "pytest", *words, f"--junitxml={report}", *only],
        cwd=tests.parent, env=environ, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return outcomes(report.read_text())


def outcomes(report: str) -> dict[str, str]:
    """Outcomes of a JUnit report: "" for a test that passed, otherwise what it said."""
    from xml.etree import ElementTree

    found: dict[str, str] = {}
    for case in ElementTree.fromstring(report).iter("testcase"):  # noqa: S314
        wrong = [e for e in case if e.tag in ("failure", "error")]
        skipped = any(e.tag == "skipped" for e in case)
        name = f"{case.get('classname')}.{case.get('name')}"
        found[name] = "skipped" if skipped else (wrong[0].get("message") or "failed") if wrong else ""
    return found


def seen(mock: str) -> Counter[tuple[str, ...]]:
    """The requests that reached the mock since the last call."""
    with urllib.request.urlopen(mock + "/__seen", timeout=30) as answer:
        return Counter(tuple(each) for each in json.load(answer))


def config(mock: str, *, unsealed: bool = False) -> dict[str, Any]:
    keys = [
        {"name": name, "sha256": sha256(key.encode()).hexdigest(), "allow": ["passthrough"], "sample": "never"}
        for name, key in KEYS.items()
    ]
    return {
        "keys": keys,
        "upstreams": {"mock": {"kind": "openai", "base_url": f"{mock}/v1", "api_key": "of-the-gateway"}},
        "models": {
            "*": {"targets": [{"upstream": "mock", "model": "*"}], "retries": {"attempts": 1}},
            **{name: {"targets": [{"upstream": "mock", "model": name}]} for name in DEFAULTS.values()},
        },
        "defaults": DEFAULTS,
        "passthrough": "mock",
        "responses": {"seal": not unsealed},
    }


def lost_of(direct: dict[str, str], through: dict[str, str]) -> dict[str, str]:
    """The gateway's answers to the tests that pass directly, and not through it."""
    return {name: wrong for name in direct if not direct[name] and (wrong := through.get(name, "not run"))}


def compared(direct: dict[str, str], through: dict[str, str]) -> str:
    passed = [name for name, wrong in direct.items() if not wrong]
    lost = lost_of(direct, through)
    meant = sum(bool(MEANT.search(wrong)) for wrong in lost.values())
    reasons = Counter(re.sub(r"[0-9a-f-]{30,}|'[^']{60,}'", "…", wrong)[:160] for wrong in lost.values())
    lines = [
        f"directly: {len(passed)} of {len(direct)} pass; through the gateway: "
        f"{sum(not wrong for wrong in through.values())}; lost: {len(lost)}, "
        f"of which {meant} ask for a response that the gateway did not make",
        *(f"{n:5d} × {why}" for why, n in reasons.most_common(20)),
        *(f"      {name}" for name in sorted(lost)[:40]),
    ]
    return "\n".join(lines)


def main() -> int:
    from openai import __version__ as installed

    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--package", default=f"openai=={installed}")
    options.add_argument("--keep", type=Path)
    options.add_argument("--only", nargs="+", default=["tests/api_resources"])
    options.add_argument("--unsealed", action="store_true")
    given = options.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp(prefix="openai-suite-"))
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "venv" / "bin" / "python"
    python, tests = (kept, next(folder.glob("openai-*/tests"))) if kept.exists() else prepared(given.package, folder)
    version = subprocess.run(
        [str(python), "-c", "import openai, sys; print(openai.__version__, 'on Python', sys.version.split()[0])"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    mock, port = f"http://127.0.0.1:{free_port()}", free_port()
    gateway = f"http://127.0.0.1:{port}"
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(config(mock, unsealed=given.unsealed)))
    serve = [
        sys.executable,
        "-m",
        "gateway",
        "serve",
        "--config",
        str(path),
        "--port",
        str(port),
        "--data",
        str(folder / "data"),
    ]
    with running(
        str(python), str(HERE / "openai_mock.py"), mock.rpartition(":")[2], url=f"{mock}/x", log=folder / "mock.log"
    ):
        seen(mock)
        direct = run_tests(python, tests, given.only, f"{mock}/v1", mock)
        asked = seen(mock)
        with running(*serve, url=f"{gateway}/health", log=folder / "gateway.log"):
            through = run_tests(python, tests, given.only, f"{gateway}/v1", mock)
        forwarded = seen(mock)
    missing = asked - forwarded
    print(f"openai-python {version}; mock: openai_mock.py (answers from the library's own types)")
    print(compared(direct, through))
    print(f"requests at the mock: {asked.total()} directly, {forwarded.total()} through; {missing.total()} not alike")
    for each, n in missing.most_common(15):
        print(f"{n:5d} × {' '.join(each)[:200]}")
    unexpected = [name for name, wrong in lost_of(direct, through).items() if not MEANT.search(wrong)]
    return 0 if direct and not unexpected else 1


if __name__ == "__main__":
    sys.exit(main())
