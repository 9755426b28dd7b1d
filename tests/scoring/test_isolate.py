"""A scorer in a child process affects nothing outside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway
from gateway.config.scorers import ScorerConfig as Section
from gateway.core.errors import ConfigError
from gateway.scoring.isolate import lesser_user, user_options
from gateway.scoring.registry import BuiltScorers, build_all, close_all

SCORER = """
import os, sys, time
from gateway.scorers import Golden, Rule, Score, Skipped
from gateway.scoring.types import DistanceScorer, GoldenPair
from gateway.core.completion import Completion
from dataclasses import dataclass

@dataclass(frozen=True, slots=True)
class Odd(Rule):
    seconds: float = 60.0
    async def score(self, subject):
        text = subject.completion.text
        if text == "raise": raise KeyError("no such thing")
        if text == "sleep": time.sleep(self.seconds)
        if text == "exit": os._exit(3)
        if text == "memory": held = [bytearray(1 << 24) for _ in range(1000)]; return Score(float(len(held)))
        if text == "print": print("{}" * 1000); sys.stdout.flush()
        if text == "secret": return Score(float("SECRET" in os.environ))
        if text == "skip": return Skipped("a reason")
        if text == "wrong": return 3
        if text == "huge": return Score(1.0, explanation="x" * (2 << 20))
        return Score(0.5, "half", text, {"pid": float(os.getpid())})
    def golden(self):
        return (Golden("half", {}, Completion("x"), 0.5),)

class Apart(DistanceScorer):
    async def compare(self, pair):
        return Score(float(pair.a.completion.text != pair.b.completion.text))
    def golden(self):
        return (GoldenPair("same", {}, Completion("x"), Completion("x"), 0.0),)

class Wrong(Odd):
    def golden(self):
        return (Golden("whole", {}, Completion("x"), 1.0),)

class Greedy(Odd):
    def __init__(self, name):
        self.held = [bytearray(1 << 24) for _ in range(1000)]
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Builds isolated scorers of the module above, each once, since that takes most of a second."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "odd_one.py").write_text(SCORER)
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("SECRET", "hush")

        def build(kind="Odd", **section):
            asked = (kind, *sorted(section.items()))
            if asked not in made:
                wanted = {"odd": Section(use=f"odd_one:{kind}", isolate=True, **section)}
                made[asked] = build_all(wanted).all()["odd"]
            return made[asked]

        build.made = made
        yield build


@pytest.fixture
async def odd(built):
    """The same; ends the processes after the test."""
    yield built
    await close_all(BuiltScorers({str(asked): each for asked, each in built.made.items()}, {}))


def alive(pid):
    return Path(f"/proc/{pid}").exists()


async def test_an_isolated_scorer_gives_the_same_result(model, odd, subject):
    result = await model.result(odd(), subject("hello"))
    assert (result.score.value, result.score.label, result.explanation) == (0.5, "half", "hello")
    assert result.score.detail["pid"] != os.getpid()
    assert (await model.result(odd(), subject("skip"))).explanation == "a reason"


async def test_the_process_is_kept_and_one_that_ended_is_started_again(model, odd, subject):
    registered = odd()
    pids = [(await model.result(registered, subject(t))).score.detail["pid"] for t in ("a", "b")]
    assert pids[0] == pids[1]
    ended = await model.result(registered, subject("exit"))
    assert (ended.status, ended.explanation) == ("error", "WorkerCrashed: its process ended with code 3")
    assert (await model.result(registered, subject("c"))).score.detail["pid"] != pids[0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("raise", "KeyError: 'no such thing'"),
        ("memory", "MemoryError: more than memory_mb: 128"),
        ("wrong", "returned int, expected Score or Skipped"),
        ("huge", "bytes, more than 1048576"),
    ],
)
async def test_a_failure_of_the_child_is_its_own_error(model, odd, subject, text, why):
    registered = odd(memory_mb=128)
    result = await model.result(registered, subject(text))
    assert result.status == "error"
    assert why in result.explanation
    assert (await model.result(registered, subject("fine"))).status == "scored"


async def test_output_is_discarded_and_the_environment_is_empty(model, odd, subject):
    registered = odd()
    assert (await model.result(registered, subject("print"))).score.value == 0.5
    assert (await model.result(registered, subject("secret"))).score.value == 0.0


async def test_one_that_sleeps_is_killed_at_its_deadline(model, odd, subject):
    registered = odd(deadline_s=3.0, concurrency=2)
    pid = (await model.result(registered, subject("first"))).score.detail["pid"]
    late = await model.result(registered, subject("sleep"))
    assert (late.status, late.explanation) == ("timeout", "not done after 3 s")
    assert not alive(int(pid))
    assert (await model.result(registered, subject("next"))).status == "scored"


async def test_pairs_go_there_too(model, odd, pair):
    registered = odd("Apart")
    values = [(await model.result(registered, pair("a", b))).score.value for b in ("a", "b")]
    assert values == [0.0, 1.0]


async def test_golden_cases_are_run_there(odd):
    with pytest.raises(ConfigError) as caught:
        odd("Wrong")
    assert caught.value.mistakes == ('scorers.odd: golden case "whole": expected 1, got 0.5',)


async def test_a_scorer_beyond_its_memory_limit_is_refused(odd):
    with pytest.raises(ConfigError) as caught:
        odd("Greedy", memory_mb=128)
    assert "MemoryError" in caught.value.mistakes[0] or "memory_mb" in caught.value.mistakes[0]


async def test_its_processes_end_with_it(model, odd, subject):
    registered = odd()
    pid = int((await model.result(registered, subject("a"))).score.detail["pid"])
    await close_all(BuiltScorers({"odd": registered}, {}))
    assert not alive(pid)


async def test_an_isolated_scorer_does_not_block_the_loop(model, odd, subject):
    """The loop runs a callback while the scorer still sleeps."""
    async with asyncio.TaskGroup() as group:
        sleeping = group.create_task(model.result(odd(), subject("sleep")))
        await asyncio.sleep(0.05)
        assert not sleeping.done()
        sleeping.cancel()


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that every user can read, unlike those of pytest."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_child_of_root_is_nobody_where_nobody_can_read(shared_folder: Path) -> None:
    packages, closed = shared_folder / "packages", shared_folder / "closed"
    packages.mkdir(mode=0o755)
    (closed / "inside").mkdir(mode=0o755, parents=True)
    closed.chmod(0o700)
    linked = shared_folder / "linked"
    linked.symlink_to(closed / "inside")
    nobody = {"user": 65534, "group": 65534, "extra_groups": ()}
    assert user_options(0, (str(packages), "", str(packages / "missing"))) == nobody
    assert user_options(1000, (str(packages),)) == {}, "who is not root stays who they are"
    for path in (closed, closed / "inside", linked):
        assert user_options(0, (str(packages), str(path))) == {}, path


def test_nobody_reads_nothing_of_root(shared_folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can start a process as another user")
    secret = shared_folder / "secret"
    secret.write_text("of root")
    secret.chmod(0o600)
    cat = shutil.which("cat") or "/bin/cat"
    options = user_options(0, (cat,))
    done = subprocess.run([cat, f"/proc/{os.getpid()}/environ", secret], capture_output=True, check=False, **options)
    assert (done.returncode, done.stdout) == (1, b"")


def test_a_child_that_stays_root_is_named(caplog: pytest.LogCaptureFixture) -> None:
    lesser_user.cache_clear()
    found = lesser_user()
    lesser_user()
    warned = [record for record in caplog.records if "isolated scorers run as root" in record.message]
    assert len(warned) == (1 if os.geteuid() == 0 and not found else 0)


CONFINED = """
import os, resource, socket, subprocess
from dataclasses import dataclass
from gateway.core.completion import Completion
from gateway.scorers import Golden, Rule, Score

def can(attempt):
    try: return float(bool(attempt()))
    except (OSError, ValueError): return 0.0

@dataclass(frozen=True, slots=True)
class Confined(Rule):
    port: int = 0
    async def score(self, subject):
        environ, limit = f"/proc/{os.getppid()}/environ", resource.getrlimit(resource.RLIMIT_AS)
        return Score(0.5, detail={
            "user": float(os.geteuid()),
            "environment": can(lambda: b"SECRET=hush" in open(environ, "rb").read()),
            "environment by a child": can(
                lambda: b"SECRET=hush" in subprocess.run(["cat", environ], capture_output=True).stdout
            ),
            "memory": can(lambda: open(f"/proc/{os.getppid()}/mem", "rb")),
            "limited": float(limit[1] != resource.RLIM_INFINITY),
            "limit raised": can(lambda: resource.setrlimit(resource.RLIMIT_AS, (limit[1] * 2, limit[1] * 2)) is None),
            "network": can(lambda: socket.create_connection(("127.0.0.1", self.port), 30)),
        })
    def golden(self):
        return (Golden("half", {}, Completion("x"), 0.5),)
"""

CONSUMER = """
import asyncio, json, logging, sys
from gateway.config.scorers import ScorerConfig
from gateway.core.completion import Completion
from gateway.core.exchange import Exchange, Target
from gateway.scoring.registry import build_all, close_all
from gateway.scoring.types import Subject

async def main(folder, port):
    sys.path.insert(0, folder)
    built = build_all({"c": ScorerConfig(use="confined:Confined", isolate=True, port=port)})
    exchange = Exchange("e", 1.0, "ada", "chat", "chat", Target("u", "m"), False, b"{}", b"{}", 200, "ok", 0.5, "e",
                        0.1, 1.0, "default", "g", 1)
    score = await built.all()["c"].scorer.score(Subject(exchange, {}, Completion("x")))
    await close_all(built)
    print(json.dumps(score.detail))

logging.basicConfig(format="%(message)s")
asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""

OPEN_ROOT = """
set -e
mount --make-rprivate /
kept=$(mktemp -d)
mount --bind "$HOME" $kept
mount -t tmpfs -o mode=755 tmpfs "$HOME"
for name in $(ls -A $kept); do
  if [ -d $kept/$name ]; then mkdir "$HOME/$name"; mount --bind $kept/$name "$HOME/$name"; fi
done
exec "$@"
"""
"""Runs a program for which every user may pass through the home of root, where Python may be; nobody else sees that."""


def as_root(folder: Path, *before: str) -> tuple[dict[str, float], str]:
    """Runs an isolated scorer of a consumer that is root; returns what it could do, and the consumer's log. before: how
    that starts."""
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("only root on Linux starts scorers as another user, or drops capabilities")
    (folder / "confined.py").write_text(CONFINED)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = str(server.getsockname()[1])
        command = [*before, sys.executable, "-c", CONSUMER, str(folder), port]
        environ = {"PATH": os.environ["PATH"], "HOME": pwd.getpwuid(0).pw_dir, "SECRET": "hush"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


CLOSED = {"environment": 0.0, "environment by a child": 0.0, "memory": 0.0, "limited": 1.0, "limit raised": 0.0}


def closed_to_nobody() -> Path | None:
    """A folder above Python or the package, outside the home of root, through which only its owner may pass."""
    needed = (
        Path(sys.executable),
        Path(sys.base_prefix).resolve() / "bin",
        Path(gateway.__file__),
        Path(pytest.__file__),
    )
    home = Path(pwd.getpwuid(0).pw_dir)
    above = {folder for path in needed for folder in path.absolute().parents if not folder.is_relative_to(home)}
    return next((folder for folder in sorted(above) if not folder.stat().st_mode & 0o001), None)


def test_a_scorer_of_root_as_nobody_is_confined(shared_folder: Path) -> None:
    """The scorer is confined from end to end; the network stays open to it, as the page on scorers says."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-m", "true"], check=False).returncode != 0:
        pytest.skip("this machine lets nobody make a mount namespace (unshare -m), in which nobody can read Python")
    if closed := closed_to_nobody():
        pytest.skip(f"nobody cannot read Python or this package, since {closed} is closed to others")
    found, said = as_root(shared_folder, unshare, "-m", "sh", "-c", OPEN_ROOT, "sh")
    assert found == {"user": 65534.0, **CLOSED, "network": 1.0}
    assert "run as root" not in said


def test_a_scorer_that_stays_root_is_confined(shared_folder: Path) -> None:
    """The scorer stays root where nobody cannot read a package: it has root's files, without root's capabilities."""
    closed = shared_folder / "closed"
    closed.mkdir(mode=0o700)
    found, said = as_root(closed, "env", f"PYTHONPATH={closed}")
    assert found == {"user": 0.0, **CLOSED, "network": 1.0}
    assert said.count("isolated scorers run as root") == 1


def test_a_scorer_of_runs_is_not_isolated():
    with pytest.raises(ConfigError, match=r"scorers\.loops\.isolate: a scorer of runs runs in the consumer itself"):
        build_all({"loops": Section(use="run_loops", isolate=True)})
