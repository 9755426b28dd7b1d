"""The wheel as a user gets it: outside any checkout, on each Python that is here, from nothing to a recorded answer."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from servers import free_ports

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
CORE_MIB = 150.0

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


@dataclass(frozen=True)
class Tools:
    """Installs uv and twine in a folder of their own, with a cache of their own that is empty at first."""

    folder: Path
    cache: Path

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a user: no checkout, no virtual environment, a home that is empty. Nothing may be
        compiled."""
        left_out = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE", "GATEWAY_DATA", "GATEWAY_MODELS")
        kept = {name: value for name, value in os.environ.items() if name not in left_out}
        kept |= {"HOME": str(self.folder / "home"), "UV_CACHE_DIR": str(self.cache), "UV_PYTHON_DOWNLOADS": "never"}
        kept |= {"UV_NO_BUILD": "1", "UV_SYSTEM_CERTS": "1", "XDG_CACHE_HOME": str(self.folder / "home" / ".cache")}
        return kept | {"PATH": f"{self.folder / 'bin'}:/usr/local/bin:/usr/bin:/bin"}

    def uv(self, *words: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
        command = [self.folder / "bin" / "uv", *words]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False, **more)
        assert done.returncode == 0, done.stderr[-4000:]
        return done


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    """Provides uv and twine in a folder of their own; skips where they cannot be installed."""
    folder = tmp_path_factory.mktemp("tools")
    (folder / "home").mkdir()
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode:
        pip = [shutil.which("pip3") or shutil.which("pip") or "pip"]
    done = subprocess.run(
        [*pip, "install", "--quiet", "--target", folder, "uv", "twine"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"uv and twine cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    return Tools(folder, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def wheel(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    out = tmp_path_factory.mktemp("dist")
    build(tools, ROOT, out)
    (found,) = out.glob("*.whl")
    return found


def build(tools: Tools, source: Path, out: Path) -> None:
    """Writes the source archive and the wheel of a checkout to a folder."""
    environ = {name: value for name, value in tools.environ.items() if name != "UV_NO_BUILD"}
    command = [tools.folder / "bin" / "uv", "build", "--out-dir", out, source]
    built = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-4000:]


def interpreter(version: str) -> str | None:
    """A Python of this version outside any environment of ours; None if there is none."""
    roots = [Path("/usr/bin"), Path("/usr/local/bin"), *sorted(Path.home().glob(".pyenv/versions/*/bin"))]
    for root in roots:
        found = root / f"python{version}"
        if found.exists() and not subprocess.run([found, "-c", "import venv"], check=False).returncode:
            return str(found)
    return None


def megabytes(folder: Path) -> float:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink()) / 1e6


def test_the_index_would_take_it(tools: Tools, wheel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(wheel.parent.glob("*.whl")) + sorted(wheel.parent.glob("*.tar.gz"))
    assert len(files) == 2
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files],
        env={**os.environ, "PYTHONPATH": str(tools.folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
    with capsys.disabled():
        print("\n" + ", ".join(f"{file.name} {file.stat().st_size / 1e6:.2f} MB" for file in files))  # noqa: T201


def test_the_wheel_has_the_commit_of_its_build(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        built = json.loads(archive.read("gateway/build.json"))
    assert re.fullmatch(r"[0-9a-f]{12}\+?", built["commit"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", built["date"])


def test_two_builds_of_a_commit_have_the_same_bytes(tools: Tools, tmp_path: Path) -> None:
    """The second is built in another folder, from files of another time and umask."""
    places = [tmp_path / "a" / "checkout", tmp_path / "b" / "elsewhere"]
    for place, seconds, mode in zip(places, (1_700_000_000, 1_800_000_000), (0o644, 0o600), strict=True):
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, place], check=True)  # noqa: S607
        for file in place.rglob("*"):
            if file.is_file() and ".git" not in file.parts:
                os.utime(file, (seconds, seconds))
                file.chmod(mode)
        build(tools, place, place.parent / "dist")
    first, second = ({f.name: f.read_bytes() for f in (p.parent / "dist").iterdir()} for p in places)
    assert len([name for name in first if name.endswith((".whl", ".tar.gz"))]) == 2
    assert first == second


def test_the_core_is_small(tools: Tools, wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tools.uv("venv", "--quiet", "--python", sys.executable, tmp_path / "env")
    tools.uv("pip", "install", "--python", tmp_path / "env", wheel)
    size = megabytes(tmp_path / "env")
    names = tools.uv("pip", "list", "--python", tmp_path / "env", "--format", "json").stdout
    with capsys.disabled():
        count = len(json.loads(names))
        print(f"\ncore install: {size:.1f} MB ({size / 1.048576:.1f} MiB), {count} packages, without bytecode")  # noqa: T201
    assert size / 1.048576 < CORE_MIB


def test_a_newcomer_sees_a_verdict(
    tools: Tools, wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`uvx --from WHEEL gateway demo --fast`, with an empty cache: no clone, no key, any free port."""
    (tmp_path / "cache").mkdir()
    (port,) = free_ports(1)
    fresh = replace(tools, cache=tmp_path / "cache")
    command = ("tool", "run", "--python", sys.executable, "--from", wheel, "gateway", "demo", "--fast")
    started = time.monotonic()
    done = fresh.uv(*command, "--port", str(port), cwd=tmp_path, timeout=900)
    seconds, output = time.monotonic() - started, done.stderr
    assert re.search(r"verdict after .* pairs: small: right in .* Ship, but keep metadata\.kind=code\.", output), output
    assert re.search(r"ship, except code: saves \d+\u202f% of the cost, \$", output)
    assert "hours are not covered" in output
    assert f"uvx --from {wheel} gateway up" in output
    assert list(tmp_path.iterdir()) == [tmp_path / "cache"], "nothing is left"
    verdict = float(re.search(r"([\d.]+) s  verdict after", output)[1])  # type: ignore[index]
    size = megabytes(fresh.cache / "archive-v0")
    with capsys.disabled():
        print(  # noqa: T201
            f"\nwheel to verdict: {seconds:.0f} s with the installation, {verdict:.0f} s after it; "
            f"{wheel.stat().st_size:,} bytes of wheel, {size:.1f} MB installed"
        )


COMPARES = """
import sys, time
started = time.perf_counter()
from gateway.__main__ import main
sys.argv = ["gateway", "compare", "a.csv", "b.csv"]
try:
    main()
except SystemExit as ended:
    code = ended.code
loaded = sorted({"sqlalchemy", "uvicorn", "pydantic", "starlette", "redis"} & set(sys.modules))
print(code, loaded, f"{time.perf_counter() - started:.2f}", sep=";", file=sys.stderr)
"""


@pytest.mark.parametrize("version", PYTHONS)
def test_a_clean_machine_compares_two_files(
    tools: Tools, wheel: Path, version: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Installed from the wheel, without an extra: `gateway compare a.csv b.csv`, what it imports, and its time."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    tools.uv("venv", "--quiet", "--python", python, tmp_path / "env")
    tools.uv("pip", "install", "--python", tmp_path / "env", wheel)
    for name, good in (("a", 0.62), ("b", 0.9)):
        scores = (f"q{i},{int((i * 7919 % 400) / 400 < good)}" for i in range(400))
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,score", *scores]))
    seconds = []
    for command in (
        [tmp_path / "env/bin/gateway", "compare", "a.csv", "b.csv"],
        [tmp_path / "env/bin/python", "-c", COMPARES],
    ):
        started = time.monotonic()
        done = subprocess.run(
            command, cwd=tmp_path, env=tools.environ, capture_output=True, text=True, check=False, timeout=120
        )
        seconds.append(time.monotonic() - started)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("On 400 items, from a to b: better on score")
    code, loaded, inside = done.stderr.strip().splitlines()[-1].split(";")
    assert (code, loaded) == ("0", "[]")
    with capsys.disabled():
        print(f"\nPython {version}: gateway compare a.csv b.csv took {min(seconds):.2f} s, {inside} s with its imports")  # noqa: T201


@contextmanager
def running(
    command: list[str | Path], folder: Path, environ: dict[str, str], code: int = 0
) -> Iterator[Callable[[], str]]:
    """A program that serves; calls give what it has written so far. It is stopped as Ctrl-C does.

    code: its exit code then."""
    log = folder / "output.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=out, stderr=out, start_new_session=True)
    try:

        def written() -> str:
            assert process.poll() is None, log.read_text()[-4000:]
            return log.read_text()

        yield written
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == code, log.read_text()[-4000:]
        assert log.read_text().rstrip().endswith("stopped")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def ready(written: Callable[[], str]) -> tuple[str, str]:
    """(base URL, key), once `gateway up` has printed them."""
    while True:
        found = re.search(r"base_url +(\S+)\n +key +(\S+)", written())
        if found:
            return found[1], found[2]
        time.sleep(0.1)


def answer(base_url: str, key: str) -> str:
    """Asks the local model; returns the id of the call."""
    body = {"model": "smollm2", "max_tokens": 8, "messages": [{"role": "user", "content": "Say hello."}]}
    request = urllib.request.Request(  # noqa: S310 - an address of this machine
        f"{base_url}/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=300) as reply:  # noqa: S310
        assert json.load(reply)["choices"][0]["message"]["content"]
        return str(reply.headers["x-request-id"])


@pytest.mark.parametrize("version", PYTHONS)
def test_the_wheel_alone_leads_to_a_recorded_answer(
    tools: Tools, wheel: Path, version: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    started = time.monotonic()
    tools.uv("venv", "--quiet", "--python", python, tmp_path / "env")
    tools.uv("pip", "install", "--python", tmp_path / "env", f"assay-gateway[local] @ file://{wheel}")
    installed_s = time.monotonic() - started
    gateway, work = tmp_path / "env" / "bin" / "gateway", tmp_path / "work"
    work.mkdir()
    environ = tools.environ
    subprocess.run([gateway, "fetch", "smollm2"], cwd=work, env=environ, check=True, capture_output=True)
    started = time.monotonic()
    with running([gateway, "up", "--port", str(free_ports(1)[0])], work, environ) as written:
        base_url, key = ready(written)
        up_s = time.monotonic() - started
        call = answer(base_url, key)
        shown = subprocess.run(
            [gateway, "samples", "--id", call, "--wait", "60", "--json"], cwd=work, env=environ, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["id"] == call
    where = subprocess.run(
        [tmp_path / "env" / "bin" / "python", "-c", "import gateway, sys; print(gateway.__file__, sys.version[:7])"],
        cwd=work, env=environ, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert str(tmp_path) in where
    with capsys.disabled():
        print(f"\nPython {version}: installed in {installed_s:.1f} s, up in {up_s:.1f} s; {where.strip()}")  # noqa: T201


def test_uvx_runs_it_without_compiling(
    tools: Tools,
    wheel: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty = Tools(tools.folder, tmp_path_factory.mktemp("empty-cache"))
    environ = empty.environ
    uvx = [tools.folder / "bin" / "uvx", "--python", sys.executable, "--from", f"assay-gateway[local] @ file://{wheel}"]
    fetched = subprocess.run([*uvx, "gateway", "fetch", "smollm2"], cwd=tmp_path, env=environ, check=False)
    assert fetched.returncode == 0
    figures = []
    for cache in ("empty", "filled"):
        if cache == "empty":
            shutil.rmtree(empty.cache)
        work = tmp_path / cache
        work.mkdir()
        started = time.monotonic()
        up = [*uvx, "gateway", "up", "--port", str(free_ports(1)[0])]
        with running(up, work, environ, 128 + signal.SIGINT) as written:  # which is uvx's own exit code
            answer(*ready(written))
            figures.append(f"{time.monotonic() - started:.1f} s with uv's cache {cache}")
    with capsys.disabled():
        print(f"\nuvx gateway up, until the first answer of the local model: {', '.join(figures)}")  # noqa: T201
