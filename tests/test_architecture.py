"""The shape of the package, read from its syntax: which way imports point, and where each kind of line may stand."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gateway"

# Modules whose test file is another one, and why.
TESTED_ELSEWHERE = {}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """proxy/relay for gateway/proxy/relay/relay.py."""
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def imports(path: Path, *, everywhere: bool = True) -> Iterator[str]:
    """The dotted names that a module imports. everywhere: within functions too."""
    nodes = ast.walk(tree(path)) if everywhere else iter(tree(path).body)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{a.name}" for a in node.names)


@cache
def every_module() -> frozenset[str]:
    return frozenset(map(name_of, modules()))


@cache
def ours(path: Path, *, everywhere: bool = True) -> set[str]:
    """The modules of this package that a module imports, as name_of names them."""
    known = every_module()
    names = {n.removeprefix("gateway.").replace(".", "/") for n in imports(path, everywhere=everywhere)}
    return (names | {f"{n}/__init__" for n in names}) & known


# ── which way imports point ──

# Higher floors import lower ones, and rooms on one floor do not know each other.
FLOORS = {
    "core": 0, "assembly": 0, "config": 1, "observability": 2, "stream": 3, "runtime": 4, "proxy": 5, "evals": 5,
    "up": 7, "fake": 7, "cli": 8, "__main__": 9,
}  # fmt: skip


def room(name: str) -> str:
    return name.split("/")[0]


def floor(name: str) -> int:
    """Raises KeyError for a module outside the drawing. The package itself holds its version and lies below all."""
    return -1 if name == "__init__" else FLOORS[room(name)]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    here = floor(name_of(path))
    upwards = {n for n in ours(path) if floor(n) > here}
    assert not upwards, f"{name_of(path)} imports {upwards}"


@pytest.mark.parametrize(("room", "other"), [("proxy", "evals"), ("evals", "proxy")])
def test_the_two_rooms_do_not_know_each_other(room: str, other: str) -> None:
    for path in (PACKAGE / room).rglob("*.py"):
        assert not [n for n in imports(path) if n.startswith(f"gateway.{other}")], path
        assert not {n for n in ours(path) if floor(n) > FLOORS["proxy"]}, path


def test_only_the_two_programs_run_a_stream_server() -> None:
    users = {name_of(p) for p in modules() if "runtime/embedded_redis" in ours(p)}
    assert users <= {"proxy/serve", "evals/serve", "up/up"}


def test_no_module_needs_itself() -> None:
    """Imports at the top of modules make no circle."""
    graph = {name_of(p): ours(p, everywhere=False) - {name_of(p)} for p in modules()}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " → ".join([*above, name])
        if name not in done:
            for each in graph[name]:
                visit(each, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_words_know_nothing_but_json() -> None:
    allowed = set(sys.stdlib_module_names) | {"orjson", "gateway"}
    for path in modules():
        if room(name_of(path)) == "core":
            foreign = {n.split(".")[0] for n in imports(path)} - allowed
            assert not foreign, f"{name_of(path)} imports {foreign}"


# ── every module has its test file ──


def needs_a_test(path: Path) -> bool:
    return path.stem not in ("__init__", "__main__") and "migrations" not in path.parts


@pytest.mark.parametrize("path", [p for p in modules() if needs_a_test(p)], ids=name_of)
def test_every_module_has_its_test_file(path: Path) -> None:
    name = name_of(path)
    room, _, stem = name.rpartition("/")
    own = f"{room}/test_{stem}.py".lstrip("/")
    wanted = TESTED_ELSEWHERE[name][0] if name in TESTED_ELSEWHERE else own
    assert (ROOT / "tests" / wanted).exists(), f"gateway/{name}.py has no tests/{wanted}"
    assert name not in TESTED_ELSEWHERE or not (ROOT / "tests" / own).exists(), f"{name} is no exception any more"


def test_no_exception_outlives_its_module() -> None:
    assert set(TESTED_ELSEWHERE) <= {name_of(p) for p in modules()}


# ── each kind of line stands in one room only ──


def lines(found: Callable[[ast.AST], bool]) -> set[str]:
    """The modules in which such a node stands."""
    return {name_of(p) for p in modules() if any(found(node) for node in ast.walk(tree(p)))}


def attribute(*chains: str) -> Callable[[ast.AST], bool]:
    return lambda node: isinstance(node, ast.Attribute) and ast.unparse(node) in chains


def call(*names: str) -> Callable[[ast.AST], bool]:
    """A call of something with that last name, whatever stands before it."""

    def found(node: ast.AST) -> bool:
        if not isinstance(node, ast.Call):
            return False
        last = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return last in names

    return found


def users_of(*packages: str) -> set[str]:
    return {name_of(p) for p in modules() if {n.split(".")[0] for n in imports(p)} & set(packages)}


def within(found: set[str], *places: str) -> set[str]:
    """What stands elsewhere. places: modules, or rooms that end in a slash."""
    return {n for n in found if not any(n == p or (p.endswith("/") and n.startswith(p)) for p in places)}


def test_only_config_reads_the_environment() -> None:
    assert not within(lines(attribute("os.environ", "os.getenv", "os.putenv")), "config/loading", "config/environment")
    from_os = {name_of(p) for p in modules() if {"os.environ", "os.getenv"} & set(imports(p))}
    assert not from_os


def test_only_metrics_makes_metrics() -> None:
    makers = {
        name_of(p)
        for p in modules()
        if {f"prometheus_client.{n}" for n in ("Counter", "Gauge", "Histogram", "Summary", "Info")} & set(imports(p))
    }
    assert not within(makers, "observability/proxy_metrics", "observability/fast_counters"), "counters add to them"
    assert "observability/fast_counters" not in lines(call("Gauge", "Histogram", "Counter"))


def test_only_the_corridor_speaks_to_redis() -> None:
    verbs = ("xadd", "xreadgroup", "xautoclaim", "xack", "xrange", "xpending", "xtrim", "xgroup_create")
    assert not within(lines(call(*verbs)), "stream/")
    assert not within(users_of("redis"), "stream/")
    assert "stream/shard" in lines(call(*verbs))


def test_connections_are_opened_in_the_transports_and_in_room_twos_client() -> None:
    """Beside them: `discover` looks for servers, and `up` asks the programs that it started whether they are ready."""
    opened = lines(call("create_connection", "open_connection", "create_unix_connection", "open_unix_connection"))
    assert not within(opened, "proxy/http/client/", "up/engines")
    reasons = {"fake/wire", "proxy/http/server/response_writer"}  # http.HTTPStatus, for a status line's words
    clients = users_of("httpx2", "httpx", "http", "urllib3", "requests", "aiohttp") - reasons
    assert not within(clients, "proxy/http/client/", "evals/http_client", "up/discovery")


def test_sql_stands_in_the_store() -> None:
    assert not within(users_of("sqlalchemy", "alembic", "sqlite3", "psycopg"), "evals/store/")


def test_only_the_command_line_prints() -> None:
    assert not within(lines(call("print", "echo", "secho", "Console")), "cli/")
    assert not within(users_of("typer", "click"), "cli/", "__main__")


# Those that start tasks otherwise: each holds what it starts, where nobody could give it a Tasks.
HOLDS_ITS_OWN = {
    "proxy/http/client/connection": "an upload beside its answer, cancelled with it",
    "proxy/http/server/protocol": "the making of one answer, held by uvicorn's own set until it is done",
    "proxy/http/client/httpx": "closings that close() may not wait for, held in a set",
    "evals/scoring/threads": "one call in a thread's own loop",
}


def test_tasks_are_started_where_they_are_held() -> None:
    def bare(node: ast.AST) -> bool:
        started = isinstance(node, ast.Expr) and call("create_task", "ensure_future")(node.value)
        return started and "group" not in ast.unparse(node.value).lower()  # type: ignore[attr-defined]

    direct = attribute("asyncio.create_task", "asyncio.ensure_future")
    assert lines(direct) == {"runtime/tasks"}
    assert not within(lines(call("create_task", "ensure_future")), "runtime/tasks", *HOLDS_ITS_OWN)
    assert not lines(bare), "a task that nothing holds is garbage collected"


def test_no_module_holds_state() -> None:
    assert not lines(lambda node: isinstance(node, ast.Global))


# ── what a serving process loads ──

HEAVY = (
    "numpy",
    "scipy",
    "typer",
    "rich",
    "sqlalchemy",
    "alembic",
    "httpx2",
    "httpx",
    "jsonschema_rs",
    "jinja2",
    "xllamacpp",
    "opentelemetry.exporter",
)


def test_serving_loads_nothing_that_only_the_other_programs_need() -> None:
    program = (
        "import sys, gateway.proxy.serve, gateway.proxy.build\n"
        f"print([n for n in {HEAVY!r} if n in sys.modules], [n for n in sys.modules if n.startswith('gateway.evals')])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, cwd=ROOT)
    assert said.stdout.strip() == "[] []"
