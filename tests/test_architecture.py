"""The structure of the package, read from its syntax: the direction of imports, and what only some modules may do."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from suite.module_facts import ModuleFacts, facts_of

pytestmark = pytest.mark.quick
ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gateway"


@cache
def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """proxy/relay for gateway/proxy/relay/relay.py."""
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


@cache
def facts(path: Path) -> ModuleFacts:
    return facts_of(path)


def imports(path: Path) -> frozenset[str]:
    """The dotted names that a module imports, within functions too."""
    return facts(path).imports


@cache
def every_module() -> frozenset[str]:
    return frozenset(map(name_of, modules()))


@cache
def ours(path: Path) -> set[str]:
    """The modules of this package that a module imports, as name_of names them."""
    known = every_module()
    within_us = (n for n in imports(path) if n.startswith("gateway."))
    names = {n.removeprefix("gateway.").replace(".", "/") for n in within_us}
    return (names | {f"{n}/__init__" for n in names}) & known


# Each layer imports itself and those below it; the names of one line are of one layer. A module belongs to the longest
# prefix that fits. MANIFESTS are the declarations of the features, which name code without importing it. VIEWS are the
# pages, reports, verbs and operations of the features: they may show what any feature knows.
LAYERS = (
    ("__init__",),
    ("core",),
    ("MANIFESTS",),
    ("config",),
    ("observability",),
    ("stream",),
    ("runtime",),
    ("proxy", "statistics"),
    ("store",),
    ("reports",),
    ("verdict",),
    ("ramps",),
    ("scoring",),
    ("scorers",),
    (
        "console/errors",
        "console/client",
        "console/access",
        "console/store",
        "console/publisher",
        "console/admin",
    ),
    ("features",),
    ("consumer", "evals"),
    (
        "console/background_reader",
        "console/filters",
        "console/sessions",
        "console/frame",
        "console/forms",
        "console/api",
    ),
    ("cli/options",),
    ("VIEWS",),
    ("console",),
    ("up", "fake"),
    ("demo",),
    ("cli",),
    ("__main__",),
)

VIEWS = re.compile(r"features/\w+/(cli|page|report|operations)\b|consumer/cli$|features/calls/playground$")

MANIFESTS = re.compile(r"features/(\w+/)?__init__$|features/manifest$")

# Inside a package: each sublayer imports itself and those before it.
SUBLAYERS = {
    "proxy": (
        ("types",),
        ("request",),
        ("directory",),
        ("http",),
        ("signing_keys",),
        ("dialects",),
        ("routing",),
        ("limits",),
        ("relay",),
        ("recording",),
        ("guards",),
        ("experiments",),
        ("settle", "stages"),
        ("app",),
        ("websocket",),
        ("endpoints",),
        ("build",),
        ("reload",),
        ("serve",),
    ),
    "verdict": (
        ("evidence", "judge_margin", "likelihood", "metrics", "preferences", "short_names"),
        ("sequences",),
        ("gates",),
        ("decision",),
        ("sentence", "traffic_facts"),
        ("split",),
        ("segments", "best_of_k"),
        ("states",),
        ("plan_gates",),
        ("findings",),
        ("conditions", "continuation", "ending", "harm", "next_step", "outcome", "price", "withheld"),
        ("items",),
        ("report",),
    ),
    "ramps": (
        ("breakers", "periods", "sample_ratio", "step_values"),
        ("blocks",),
        ("served_hours",),
        ("evidence", "served_proof"),
        ("alarms", "block_alarm", "block_proof"),
        ("callers",),
        ("block_callers", "guard_promotion", "plan_proofs"),
        ("decision", "subject"),
        ("commands", "engine"),
    ),
    "features": (
        ("isolation", "row_files"),
        ("consumer_report", "manifest", "task"),
        ("hooks", "targets"),
        ("gateway_choice",),
        ("calls",),
        ("usage",),
        ("keys",),
        ("own_key",),
        ("litellm",),
        ("notices",),
        ("feedback",),
        ("runs",),
        ("labels",),
        ("learned",),
        ("decisions",),
        ("experiments",),
        ("ramp",),
        ("guards",),
        ("replay",),
        ("compare",),
        ("retirement",),
        ("route",),
        ("traces",),
        ("groups",),
        ("models",),
        ("today",),
        ("status",),
        ("__init__",),
    ),
    "consumer": (
        ("entry_scoring", "gauges"),
        ("otel_events", "run_requests", "backfill", "ingest"),
        ("consumer",),
        ("serve",),
        ("worker_processes",),
        ("cli",),
    ),
    "console": (
        ("errors", "client"),
        ("access", "store"),
        ("publisher",),
        ("admin",),
        ("background_reader", "filters", "sessions"),
        ("frame", "api"),
        ("forms",),
        ("identity_provider",),
        ("login",),
        ("openapi",),
        ("app",),
        ("serve",),
    ),
}


@cache
def named() -> dict[str, Path]:
    return {name_of(path): path for path in modules()}


def package(name: str) -> str:
    return name.split("/")[0]


def layer(name: str) -> int:
    """The layer of a module. A package's own file that imports nothing of ours is below all others."""
    if name.endswith("/__init__") and not ours(named()[name]):
        return 0
    if VIEWS.match(name):
        name = "VIEWS"
    elif MANIFESTS.match(name):
        name = "MANIFESTS"
    fitting = [
        (len(prefix), number)
        for number, prefixes in enumerate(LAYERS)
        for prefix in prefixes
        if name == prefix or name.startswith(f"{prefix}/")
    ]
    assert fitting, f"gateway/{name}.py has no layer: add its folder to LAYERS in {__file__}"
    return max(fitting)[1]


def test_the_page_has_the_layers_in_their_order() -> None:
    """The rows of docs/contributing/architecture.md, and LAYERS: the packages of each, by their folder."""
    page = (ROOT / "docs" / "contributing" / "architecture.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([^|]*) \|", page, re.MULTILINE)
    parts = {"MANIFESTS": "features", "VIEWS": "features"}
    packages = [{parts.get(prefix, package(prefix)) for prefix in layer} for layer in LAYERS]
    folders = [layer & {path.name for path in PACKAGE.iterdir() if path.is_dir()} for layer in packages]
    shown = [set(re.findall(r"`(\w+)/`", cell)) for _, cell in rows]
    assert shown == [layer - {"evals"} for layer in folders if layer], "correct the table below The layers"
    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))


def sublayer(name: str) -> int:
    """The sublayer of a module in a package that has sublayers."""
    first = name.split("/")[1]
    numbers = [number for number, names in enumerate(SUBLAYERS[package(name)], 1) if first in names]
    assert numbers or first == "__init__", (
        f"gateway/{name}.py has no sublayer: add {first!r} to SUBLAYERS in {__file__}"
    )
    return numbers[0] if numbers else 0


def test_imports_point_downwards_between_packages() -> None:
    """Imports under TYPE_CHECKING and inside functions included."""
    upwards = {name: {n for n in ours(path) if layer(n) > layer(name)} for name, path in named().items()}
    assert {name: found for name, found in upwards.items() if found} == {}


def test_imports_point_downwards_inside_a_package() -> None:
    """Imports under TYPE_CHECKING and inside functions included."""
    upwards = {
        name: {
            n
            for n in ours(path)
            if package(n) == package(name) and layer(n) == layer(name) and sublayer(n) > sublayer(name)
        }
        for name, path in named().items()
        if package(name) in SUBLAYERS and not VIEWS.match(name)
    }
    assert {name: found for name, found in upwards.items() if found} == {}


OF_THE_CONSUMER = (
    "statistics",
    "store",
    "reports",
    "verdict",
    "ramps",
    "scoring",
    "scorers",
    "features",
    "consumer",
    "evals",
)


def test_the_two_programs_do_not_know_each_other() -> None:
    """The request path, and everything that judges answers."""
    for name, path in named().items():
        foreign = {"proxy": OF_THE_CONSUMER, **dict.fromkeys(OF_THE_CONSUMER, ("proxy",))}.get(package(name), ())
        known = {n for n in ours(path) if package(n) in foreign}
        assert not known, f"gateway/{name}.py imports {sorted(known)}"


SHELLS = re.compile(r"(consumer|console|cli|up)/")
OF_A_FEATURE = re.compile(r"features/\w+/(?!__init__$)")
"""The modules directly in features/ are of none: the list, manifests, hooks, tasks and what several features share."""


def test_shells_know_features_by_their_manifests_alone() -> None:
    known = {
        name: features
        for name, path in named().items()
        if SHELLS.match(name) and (features := {other for other in ours(path) if OF_A_FEATURE.match(other)})
    }
    assert known == {}, "declare it in the feature's manifest, as an entry or a hook"


def test_every_entry_of_a_manifest_names_a_module() -> None:
    """The object itself is looked up in tests/features/test_manifest.py."""
    paths = [path for name, path in named().items() if MANIFESTS.match(name) or name == "cli/verb_table"]
    entries = {entry for path in paths for entry in facts(path).manifest_entries}
    files = {entry: entry.partition(":")[0].removeprefix("gateway.").replace(".", "/") for entry in entries}
    assert entries
    assert {entry for entry, name in files.items() if not {name, f"{name}/__init__"} & every_module()} == set()


def test_no_import_cycle() -> None:
    """Imports under TYPE_CHECKING and inside functions included."""
    graph = {name_of(p): ours(p) - {name_of(p)} for p in modules()}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " → ".join([*above, name])
        if name not in done:
            for each in graph[name]:
                visit(each, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_no_class_name_is_defined_twice() -> None:
    places: dict[str, list[str]] = {}
    for path in modules():
        for name in facts(path).classes:
            places.setdefault(name, []).append(name_of(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_only_the_programs_run_a_stream_server() -> None:
    users = {name_of(p) for p in modules() if "runtime/embedded_redis" in ours(p)}
    assert users <= {
        "proxy/serve",
        "consumer/serve",
        "consumer/worker_processes",
        "console/serve",
        "consumer/backfill",
        "up/up",
    }


def test_every_file_that_a_docstring_names_exists() -> None:
    """A file is named by a path, or by its name where the folder of the docstring has it or only one folder does."""
    files = [
        path.relative_to(ROOT).as_posix()
        for top in (PACKAGE, ROOT / "tests", ROOT / "bench", ROOT / "docs")
        for path in top.rglob("*.py")
    ]
    wrong = []
    for path in modules():
        for name in facts(path).mentioned_files:
            fitting = [file for file in files if file == name or file.endswith(f"/{name}")]
            if not ((path.parent / name).exists() or len(fitting) == 1):
                problem = "is ambiguous" if fitting else "does not exist"
                wrong.append(f"{path.relative_to(ROOT)} names {name}, which {problem}")
    assert wrong == []


def test_core_imports_only_the_standard_library_and_orjson() -> None:
    allowed = set(sys.stdlib_module_names) | {"orjson", "gateway"}
    for path in modules():
        if package(name_of(path)) == "core":
            foreign = {n.split(".")[0] for n in imports(path)} - allowed
            assert not foreign, f"{name_of(path)} imports {foreign}"


def test_a_verdict_is_pure() -> None:
    """Features read the sums and pairs over which a verdict decides: no store, connection or config is imported."""
    allowed = {"core", "statistics", "reports", "verdict"}
    for name, path in named().items():
        if package(name) == "verdict":
            foreign = {other for other in ours(path) if package(other) not in allowed}
            assert not foreign, f"{name} imports {foreign}"
            assert not {n for n in imports(path) if n.split(".")[0] == "sqlalchemy"}, name


SHAPE = {"__init__", "model", "rows", "work", "report", "page", "cli", "metrics", "operations"}
MOST_OTHERS = 6


def test_a_feature_has_the_closed_shape() -> None:
    """Files have the names that every feature uses, or are at most six others; the rest is in folders of a term."""
    others: dict[str, set[str]] = {}
    for name in named():
        room, _, rest = name.removeprefix("features/").partition("/")
        if name.startswith("features/") and rest and "/" not in rest and rest not in SHAPE:
            others.setdefault(room, set()).add(rest)
    wide = {room: sorted(files) for room, files in others.items() if len(files) > MOST_OTHERS}
    assert wide == {}


# Verdicts are compared, shown and used by several features; what they share is in gateway/verdict and gateway/store.
SOURCES_OF_VERDICTS = ("experiments", "replay", "compare", "route", "guards")


def test_sources_of_verdicts_do_not_know_each_other() -> None:
    """Statistics are in gateway/verdict, and the evidence on a plan is read by gateway/store."""
    sideways = {
        f"{room} → {source}/{file}"
        for name, path in named().items()
        for other in ours(path)
        if name.startswith("features/") and other.startswith("features/") and "/" in other.partition("/")[2]
        for room, (source, file) in [(name.split("/")[1], other.split("/")[1:3])]
        if room != source and {room, source} <= set(SOURCES_OF_VERDICTS) and file != "__init__"
    }
    assert sideways == set()


def needs_a_test(path: Path) -> bool:
    return path.stem not in ("__init__", "__main__") and "migrations" not in path.parts


@cache
def imported_by_tests_in(folder: str) -> frozenset[str]:
    """The modules that the test files directly in a folder below tests/ import."""
    files = (ROOT / "tests" / folder).glob("test_*.py")
    return frozenset().union(*({name.removeprefix("gateway.") for name in imports(path)} for path in files))


def test_every_module_is_tested() -> None:
    """A module is tested by a file of its own name, or by one of its folder or of a folder above that imports it."""
    missing = []
    for name in (name for name, path in named().items() if needs_a_test(path)):
        folder, _, stem = name.rpartition("/")
        above = [folder, *(parent.as_posix() for parent in Path(folder).parents)]
        own = (ROOT / "tests" / folder / f"test_{stem}.py").exists()
        if not own and not any(name.replace("/", ".") in imported_by_tests_in(each) for each in above):
            missing.append(f"no test file of tests/{folder} or above it imports gateway/{name}.py")
    assert missing == []


def having(*attributes: str) -> set[str]:
    """The modules that contain one of these attributes: `os.environ`."""
    return {name_of(p) for p in modules() if not facts(p).attributes.isdisjoint(attributes)}


def calling(*names: str) -> set[str]:
    """The modules that call something with one of these last names, on any object."""
    return {name_of(p) for p in modules() if not facts(p).calls.isdisjoint(names)}


def users_of(*packages: str) -> set[str]:
    return {name_of(p) for p in modules() if {n.split(".")[0] for n in imports(p)} & set(packages)}


def within(found: set[str], *places: str) -> set[str]:
    """The modules outside places, which are modules, or folders that end in a slash."""
    return {n for n in found if not any(n == p or (p.endswith("/") and n.startswith(p)) for p in places)}


def test_only_config_reads_the_environment() -> None:
    assert not within(having("os.environ", "os.getenv", "os.putenv"), "config/loading", "config/environment")
    from_os = {name_of(p) for p in modules() if {"os.environ", "os.getenv"} & set(imports(p))}
    assert not from_os


def test_only_observability_defines_metrics() -> None:
    makers = {
        name_of(p)
        for p in modules()
        if {f"prometheus_client.{n}" for n in ("Counter", "Gauge", "Histogram", "Summary", "Info")} & set(imports(p))
    }
    allowed = ("observability/catalog", "observability/proxy_metrics", "observability/fast_counters")
    assert not within(makers, *allowed), "built of metrics.toml, named as attributes, added up"
    assert "observability/fast_counters" not in calling("Gauge", "Histogram", "Counter")


def test_only_stream_uses_redis() -> None:
    verbs = ("xadd", "xreadgroup", "xautoclaim", "xack", "xrange", "xpending", "xtrim", "xgroup_create")
    assert not within(calling(*verbs), "stream/")
    assert not within(users_of("redis"), "stream/")
    assert "stream/shard" in calling(*verbs)


def test_only_http_clients_open_connections() -> None:
    """Exceptions: discovery looks for servers, `up` asks its engines whether they are ready, and a parent of consumers
    asks them for their metrics."""
    opened = calling("create_connection", "open_connection", "create_unix_connection", "open_unix_connection")
    assert not within(opened, "proxy/http/client/", "up/engines")
    own = ("scoring/http_client", "scoring/http_opening", "consumer/worker_processes")
    reasons = {"fake/wire", "proxy/http/server/response_writer"}  # http.HTTPStatus, for a status line's words
    clients = users_of("httpx2", "httpx", "http", "urllib3", "requests", "aiohttp") - reasons
    assert not within(clients, "proxy/http/client/", "console/client", *own, "up/discovery")


SQL = re.compile(r"features/\w+/rows\b")


def test_only_the_store_uses_sql() -> None:
    outside = within(users_of("sqlalchemy", "alembic", "sqlite3", "psycopg"), "store/")
    assert not {name for name in outside if not SQL.match(name)}


VERBS = re.compile(r"/cli(/|$)")


def test_only_the_command_line_prints() -> None:
    printing = within(calling("print", "echo", "secho", "Console"), "cli/")
    assert not {name for name in printing if not VERBS.search(name)}
    asking = within(users_of("typer", "click"), "cli/", "__main__")
    assert not {name for name in asking if not VERBS.search(name)}


# Modules that start tasks without Tasks. Each holds its tasks itself, because no owner can hand it a Tasks.
HOLDS_ITS_OWN = {
    "proxy/http/client/connection": "the upload of a request, cancelled with its exchange",
    "proxy/http/server/protocol": "the answering of one request, held in uvicorn's set of tasks",
    "proxy/http/server/tls": "a handshake, held by the future of its transport, which ends it in time",
    "proxy/http/client/resolver": "attempts at connections, cancelled with the call that waits for one",
    "proxy/http/client/httpx": "closings for which close() cannot wait, held in a set",
    "scoring/threads": "one call in the loop of a scoring thread",
}


def test_a_task_is_started_where_it_is_held() -> None:
    assert having("asyncio.create_task", "asyncio.ensure_future") == {"runtime/tasks"}
    assert not within(calling("create_task", "ensure_future"), "runtime/tasks", *HOLDS_ITS_OWN)
    assert not [name_of(p) for p in modules() if facts(p).drops_tasks], "a task that nothing holds is garbage collected"


OUTPUT_LIMITS = {"max_tokens", "max_completion_tokens", "max_output_tokens"}


def test_the_names_of_an_output_limit_are_one_constant() -> None:
    with_all = {name_of(p) for p in modules() if any(texts >= OUTPUT_LIMITS for texts in facts(p).text_collections)}
    assert with_all == {"core/output_tokens"}, "use OUTPUT_LIMITS of core/output_tokens.py"


def test_no_module_holds_state() -> None:
    assert not [name_of(p) for p in modules() if facts(p).has_global]


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
    "sklearn",
    "opentelemetry.exporter",
)


def test_serving_loads_no_package_of_the_other_programs() -> None:
    program = (
        "import sys, gateway.proxy.serve, gateway.proxy.build\n"
        f"packages = {OF_THE_CONSUMER!r}\n"
        f"print([n for n in {HEAVY!r} if n in sys.modules], "
        "[n for n in sys.modules if n.startswith('gateway.') and n.split('.')[1] in packages])"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, cwd=ROOT)
    assert loaded.stdout.strip() == "[] []"


def test_each_migration_follows_the_previous_one() -> None:
    """A number that two migrations have would split the chain: no store could be opened."""
    found = sorted((PACKAGE / "store" / "migrations" / "versions").glob("[0-9]*.py"))
    numbers = [path.name[:4] for path in found]
    assert len(set(numbers)) == len(numbers), "give the newer one the next free number"
    for path, before in zip(found, [None, *numbers], strict=False):
        text = path.read_text("utf-8")
        assert f'revision = "{path.name[:4]}"' in text
        assert before is None or f'down_revision = "{before}"' in text, f"{path.name} does not follow {before}"
