"""Values that the processes of one gateway pass to each other: environment variables, and the file `evals` of the data
directory. `gateway up` passes them to the programs it starts, `gateway serve` to its workers.

Together with loading.py, the only module that reads the environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.config.scorers import EvalsConfig
from gateway.core.providers import PROVIDERS, Provider

_ENGINES, _UP_KEY, _EVALS = "GATEWAY_ENGINES", "GATEWAY_UP_KEY_SHA256", "GATEWAY_UP_EVALS"
_UP_ADMIN, _UP_LOGIN = "GATEWAY_UP_ADMIN_SHA256", "GATEWAY_UP_LOGIN"
_OWN_KEY = "GATEWAY_KEY"
_ADMIN_URL, _ADMIN_TOKEN = "GATEWAY_ADMIN_URL", "GATEWAY_ADMIN_TOKEN"
_EVALS_KEY_NAME = "evals"
_RESTARTS = "restarts"  # in the workers' shared directory
_EVALS_FILE = "evals"  # in the data directory, mode 0600: "BASE_URL KEY"
_ADMIN_FILE = "admin"  # the same: "URL TOKEN"
_LOGIN_FILE = "login"  # the same: "EXPIRES SECRET", until the login link is used
_LOGIN_LEFT_S = 300.0  # a link with less time left is not printed again
_ADMIN_TOKEN_S = 12 * 3600.0
_METRICS_FD = "GATEWAY_METRICS_FD"
_CONSOLE = "http://127.0.0.1:9102"


@dataclass(frozen=True, slots=True)
class WorkerEnvironment:
    """Values that every worker process of one `gateway serve` needs."""

    config: Path
    data: Path
    loopback: bool
    """The port is reachable from this machine only."""
    address: str = ""
    """HOST:PORT of the main listener, by which people know the gateway; "" if unknown."""
    workers: int = 1


def model_cache() -> Path:
    """The folder of fetched model weights: $GATEWAY_MODELS, else below $XDG_CACHE_HOME or ~/.cache."""
    given = os.environ.get("GATEWAY_MODELS")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assay-gateway" / "models"


def export_to_workers(worker: WorkerEnvironment, shared_metrics: Path) -> None:
    """shared_metrics: a directory in which workers add up their counts; prometheus_client reads it at import."""
    os.environ["GATEWAY_SERVED"] = json.dumps(
        [str(worker.config), str(worker.data), worker.loopback, worker.address, worker.workers]
    )
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(shared_metrics)


def worker_environment() -> WorkerEnvironment:
    config, data, loopback, address, workers = json.loads(os.environ["GATEWAY_SERVED"])
    return WorkerEnvironment(Path(config), Path(data), loopback, address, workers)


def shared_metrics() -> Path | None:
    """The directory in which workers add up their counts; None if a single process, which counts in memory."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(directory) if directory else None


def count_restart(shared: Path) -> None:
    """The parent has replaced a worker. shared: the directory in which workers add up their counts."""
    path = shared / _RESTARTS
    own = path.with_suffix(".new")
    own.write_text(str(restarts(shared) + 1))
    own.replace(path)  # workers may read it at any moment


def restarts(shared: Path) -> int:
    """Number of workers that have been replaced since the parent began."""
    try:
        return int((shared / _RESTARTS).read_text())
    except (OSError, ValueError):
        return 0


def api_key_of(provider: Provider) -> str:
    """The value of the provider's usual key variable; "" if it is not set."""
    return os.environ.get(provider.key_env or "", "")


def providers_with_keys() -> list[Provider]:
    """The providers whose usual key variable is set; one that has several kinds counts by its first."""
    found = [v for v in PROVIDERS.values() if v.key_env and v.base_url and os.environ.get(v.key_env)]
    return [v for v in found if not v.priced_as]


def guard_environment() -> dict[str, str]:
    """The part of this process's environment that the process of guards gets: no secret."""
    names = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
    return {name: os.environ[name] for name in names if name in os.environ}


def process_environment() -> dict[str, str]:
    return dict(os.environ)


def metrics_socket_environment(fd: int) -> dict[str, str]:
    """Returns this process's environment, for a worker of `gateway evaluate` that serves its metrics on an inherited
    socket."""
    return {**os.environ, _METRICS_FD: str(fd)}


def metrics_socket() -> int | None:
    """The descriptor of the socket that workers of `gateway evaluate` inherit; None if this process is not one."""
    fd = os.environ.get(_METRICS_FD)
    return None if fd is None else int(fd)


def child_environment(
    engines: Mapping[str, str], digest: str, evals_access: str = "", admin_access: str = "", login: str = ""
) -> dict[str, str]:
    """Returns this process's environment with the variables that add_from_up reads in a program that `gateway up`
    starts.

    engines: the base URL of each engine that `gateway up` runs, by upstream. digest: the SHA-256 of the key it made for
    a file without keys. evals_access, admin_access: from write_evals_access and write_admin_access. login: the secret
    of the console's login link with the Unix time at which it expires, "SECRET 1764150000". Each may be empty.
    """
    admin_token = admin_access.partition(" ")[2]
    passed = {
        _ENGINES: " ".join(f"{name}={url}" for name, url in engines.items()),
        _UP_KEY: digest,
        _EVALS: evals_access,
        _UP_ADMIN: hashlib.sha256(admin_token.encode()).hexdigest() if admin_token else "",
        _UP_LOGIN: _login(*login.split()) if login else "",
    }
    return {**os.environ, **passed}


def _login(secret: str, expires: str) -> str:
    return f"{hashlib.sha256(secret.encode()).hexdigest()} {expires}"


@dataclass(frozen=True, slots=True)
class LoginLink:
    """The link by which the person who started `gateway up` signs in to the console, once."""

    sha256: str
    """Digest of its secret, in hexadecimal."""
    expires: float
    """Unix seconds."""
    token_sha256: str
    """Digest of the admin token of `gateway up`, whose session it begins."""


def login_link() -> LoginLink | None:
    """The link of the `gateway up` that started this program; None if another program did."""
    digest, _, expires = os.environ.get(_UP_LOGIN, "").partition(" ")
    token = os.environ.get(_UP_ADMIN, "")
    return LoginLink(digest, float(expires), token) if digest and token else None


def add_from_up(raw: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Adds to the sections of a file what `gateway up` passes in the environment; see child_environment."""
    _add_engine_urls(raw, environ.get(_ENGINES, ""))
    digest = environ.get(_UP_KEY, "")
    if digest and not raw.get("keys") and not raw.get("open"):
        raw["keys"] = [{"name": "up", "sha256": digest}]
    _add_evals_key(raw, environ.get(_EVALS, ""))
    _add_admin_token(raw, environ.get(_UP_ADMIN, ""))


def _add_admin_token(raw: dict[str, Any], digest: str) -> None:
    """Adds the admin token of `gateway up` to those of the file."""
    admin = raw.get("admin") or {}
    tokens = admin.get("tokens") or [] if isinstance(admin, dict) else None
    if not digest or not isinstance(tokens, list):
        return  # validation reports what is not a list
    taken = {t.get("name") for t in tokens if isinstance(t, dict)}
    name = next(n for n in ("up", *(f"up-{i}" for i in range(len(taken) + 1))) if n not in taken)
    raw["admin"] = {**admin, "tokens": [*tokens, {"name": name, "sha256": digest, "role": "owner", "content": True}]}


def _add_engine_urls(raw: dict[str, Any], engines: str) -> None:
    """engines: "local=http://127.0.0.1:41234/v1 other=…". Only upstreams with a `run` are changed."""
    upstreams = raw.get("upstreams")
    for engine in engines.split():
        name, _, url = engine.partition("=")
        upstream = upstreams.get(name) if isinstance(upstreams, dict) else None
        if isinstance(upstream, dict) and "run" in upstream:
            upstream["base_url"] = url


def _add_evals_key(raw: dict[str, Any], evals_access: str) -> None:
    """Adds the section `evals`, and its key to `keys`, unless the file has an `evals` of its own."""
    base_url, _, key = evals_access.partition(" ")
    if not key or raw.get("evals"):
        return
    raw["evals"] = {"base_url": base_url, "api_key": key}
    keys = raw.get("keys") or []
    if not isinstance(keys, list):
        return  # validation reports it
    taken = {k.get("name") for k in keys if isinstance(k, dict)}
    names = (_EVALS_KEY_NAME, *(f"{_EVALS_KEY_NAME}-{i}" for i in range(len(taken) + 1)))
    name = next(n for n in names if n not in taken)
    digest = hashlib.sha256(key.encode()).hexdigest()
    raw["keys"] = [*keys, {"name": name, "sha256": digest, "allow": ["target"], "sample": "never"}]


def write_evals_access(data: Path, base_url: str) -> str:
    """Makes a key that is valid as long as this `gateway up` runs, and returns "BASE_URL KEY".

    The same text is written to the data directory, readable by its owner only: verbs such as `gateway replay` use it.
    """
    return _written(data / _EVALS_FILE, f"{base_url} sk-evals-{secrets.token_urlsafe(24)}")


def write_admin_access(data: Path, url: str, now: float | None = None) -> str:
    """Writes the admin token that is valid while this `gateway up` runs, and returns "URL TOKEN"; `gateway keys` and
    others read the same text from the data directory.

    The token of the previous run is reused for twelve hours, as long as a session of the console lasts, so that a
    restart signs nobody out. now: Unix seconds.
    """
    path, now = data / _ADMIN_FILE, time.time() if now is None else now
    token, made = _token_before(path)
    if not token or not 0 <= now - made < _ADMIN_TOKEN_S:
        token, made = f"admin-{secrets.token_urlsafe(32)}", now
    access = _written(path, f"{url} {token}")
    os.utime(path, (made, made))
    return access


def _token_before(path: Path) -> tuple[str, float]:
    """The token in the file, and the time at which it was made; "" if there is none, or others than its owner may have
    read it."""
    text, made = _private_text(path)
    token = text.partition(" ")[2]
    return (token if token.startswith("admin-") else ""), made


def _private_text(path: Path) -> tuple[str, float]:
    """Reads a file that is private to its owner: (its text, the time of its last change); "" if it is missing or other
    users may read it."""
    try:
        found = path.stat()
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return "", 0.0
    safe = found.st_uid == os.getuid() and not found.st_mode & 0o077
    return (text if safe else ""), found.st_mtime


def write_login_link(data: Path, lasts_s: float, now: float | None = None) -> tuple[str, float]:
    """(secret, Unix time at which it expires) of the console's login link, written to the data directory.

    The link of the previous run is reused as long as nobody has used it and it is valid for some time. Its expiry does
    not change: the store remembers until then that a link was used.
    """
    path, now = data / _LOGIN_FILE, time.time() if now is None else now
    expires, _, secret = _private_text(path)[0].partition(" ")
    if secret and expires.isdecimal() and now + _LOGIN_LEFT_S <= int(expires) <= now + lasts_s:
        return secret, float(expires)
    secret, end = secrets.token_urlsafe(32), int(now + lasts_s)
    _written(path, f"{end} {secret}")
    return secret, float(end)


def forget_login_link(data: Path) -> None:
    """Removes what `write_login_link` wrote: the link was used. Raises OSError."""
    (data / _LOGIN_FILE).unlink(missing_ok=True)


def _written(path: Path, access: str) -> str:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(access)
    return access


def admin_access(data: Path) -> tuple[str, str]:
    """The console's URL and an admin token: of $GATEWAY_ADMIN_URL and $GATEWAY_ADMIN_TOKEN, else those that
    `gateway up` wrote to the data directory. The token is "" if there is none."""
    path = data / _ADMIN_FILE
    url, _, token = path.read_text(encoding="utf-8").partition(" ") if path.exists() else (_CONSOLE, "", "")
    own = os.environ.get(_ADMIN_TOKEN)
    return os.environ.get(_ADMIN_URL) or (_CONSOLE if own else url), own or token


def own_key_access() -> tuple[str, str]:
    """The console's URL, and the secret of the caller's own key in $GATEWAY_KEY; "" if there is none."""
    return os.environ.get(_ADMIN_URL) or _CONSOLE, os.environ.get(_OWN_KEY, "")


def resolve_evals(evals: EvalsConfig, data: Path) -> EvalsConfig:
    """The file's section if it names a gateway, else the access that `gateway up` wrote to this data directory."""
    path = data / _EVALS_FILE
    if evals.base_url or not path.exists():
        return evals
    base_url, _, key = path.read_text(encoding="utf-8").partition(" ")
    return EvalsConfig(base_url=base_url, api_key=key or None)


def litellm_salt_key(master_key: object) -> str:
    """The key that LiteLLM encrypts its stored models with: $LITELLM_SALT_KEY, else its master key; "" if unknown.

    master_key: as its config has it, a text or `os.environ/NAME`.
    """
    if own := os.environ.get("LITELLM_SALT_KEY"):
        return own
    text = master_key if isinstance(master_key, str) else os.environ.get("LITELLM_MASTER_KEY", "")
    name = text.removeprefix("os.environ/")
    return text if name == text else os.environ.get(name, "")


def debuggable() -> bool:
    """GATEWAY_DEBUGGABLE=1: debuggers and profilers of the same user may look into the process."""
    return os.environ.get("GATEWAY_DEBUGGABLE") == "1"


def replay_key() -> str | None:
    """$GATEWAY_REPLAY_KEY: on a worker of a cluster, the gateway's key for replays; None means that it is sent
    there.
    """
    return os.environ.get("GATEWAY_REPLAY_KEY") or None


def aws_files() -> tuple[Path, Path]:
    """Names of the variables in which AWS's libraries look for access keys and profiles."""
    names = (("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"), ("AWS_CONFIG_FILE", "~/.aws/config"))
    keys, profiles = (Path(os.environ.get(name, usual)).expanduser() for name, usual in names)
    return keys, profiles


def google_file() -> Path:
    """Names of the variables in which Google's libraries look for default credentials."""
    usual = "~/.config/gcloud/application_default_credentials.json"
    return Path(os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", usual)).expanduser()


def data_directory(option: Path | None) -> Path:
    """The directory of the embedded stream server and the store: --data, else $GATEWAY_DATA, else ./.gateway."""
    return option or Path(os.environ.get("GATEWAY_DATA") or ".gateway")
