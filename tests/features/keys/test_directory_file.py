"""`gateway keys snapshot`: the store's keys in the file that a gateway starts from without the stream server."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.errors import CannotRun
from gateway.core.keys import KeyRecord
from gateway.features.keys.directory_file import write_directory_file
from gateway.runtime.directory_snapshot import DirectorySnapshot
from gateway.store.directory import DirectoryRow, begin_change, ensure_directory, save_row


def a_key(n: int, **fields: Any) -> KeyRecord:
    return KeyRecord(**{"id": f"key_{n}", "name": f"k{n}", "digests": ((f"{n:064x}", None),), "limits": {}, **fields})


@pytest.mark.dialect
async def test_the_file_has_what_gateways_would_read_from_the_stream_server(opened, store_url, tmp_path):
    store = await opened(store_url)
    for n, more in ((1, {}), (2, {"traffic_class": "batch"})):
        version = await store.run(begin_change)
        row = DirectoryRow(a_key(n, **more), 1.0, 1.0, version)
        await store.run(lambda c, row=row: save_row(c, row))
    written = write_directory_file(store_url, tmp_path / "pod")
    loaded = DirectorySnapshot(tmp_path / "pod").load()
    assert loaded is not None
    assert loaded.changes.complete
    assert loaded.changes.records == {"key:key_1": a_key(1), "key:key_2": a_key(2, traffic_class="batch")}
    assert (loaded.changes.head.version, written.version) == (version, version)
    assert written.path.stat().st_mode & 0o777 == 0o600
    state = await store.run(ensure_directory)
    assert loaded.changes.head.epoch == state.epoch, "the stream server's changes follow on it"


async def test_a_store_without_keys_or_that_is_not_there_is_named(opened, tmp_path, gateway):
    with pytest.raises(CannotRun, match="no store"):
        write_directory_file(f"sqlite:///{tmp_path}/none.db", tmp_path / "pod")
    words = ("keys", "snapshot", "--data", str(tmp_path / "empty"))
    refused = gateway(*words)
    assert refused.returncode == 1
    passed = gateway(*words, "--if-reachable")
    assert passed.returncode == 0
    assert "no snapshot of the keys was written" in passed.stderr
