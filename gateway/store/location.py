"""The URL of a store, for code that does not open it: nothing here needs SQLAlchemy."""

from __future__ import annotations

from pathlib import Path

_SQLITE = "sqlite:///"


def default_url(data: Path) -> str:
    """SQLite in the data directory."""
    return f"{_SQLITE}{data.resolve() / 'gateway.db'}"


def is_missing_file(url: str) -> bool:
    """Whether the store would be a file that does not exist. False for a store on a server."""
    return url.startswith(_SQLITE) and not Path(url.removeprefix(_SQLITE).partition("?")[0]).is_file()
