"""A deployment as an archive, which another tree continues: its folder, and the keys of its stream server."""

from __future__ import annotations

import base64
import io
import json
import lzma
import tarfile
from pathlib import Path

from golden.cases import Case
from golden.world import World

from gateway.stream import Corridor

_KEYS = "stream.json"
"""A file of the archive: Unix seconds of the recording, and each key with its time to live and what DUMP gives."""
SHORT_MS = 3_600_000
"""A key that lives no longer than this is gone when the next version starts."""


def save(world: World, path: Path) -> None:
    async def dump(corridor: Corridor) -> dict[str, list[int | str]]:
        found = {}
        async for key in corridor.client.scan_iter(match=f"{world.name}*"):
            dumped, left_ms = await corridor.client.dump(key), await corridor.client.pttl(key)
            if not 0 <= left_ms < SHORT_MS:
                found[key.decode()] = [max(left_ms, 0), base64.b64encode(dumped).decode()]
        return dict(sorted(found.items()))

    world.sql("DELETE FROM leases")
    world.sql("PRAGMA journal_mode = DELETE")
    world.sql("VACUUM")
    keys = {"at": world.clock.now, "keys": world.on_stream(dump)}
    (world.folder / _KEYS).write_text(json.dumps(keys))
    with tarfile.open(path, "w:xz", preset=9 | lzma.PRESET_EXTREME) as archive:
        for file in sorted(world.folder.iterdir()):
            if file.name != "gateway.yaml" and file.is_file():
                entry = tarfile.TarInfo(file.name)
                entry.size = file.stat().st_size
                archive.addfile(entry, io.BytesIO(file.read_bytes()))


def restore(case: Case, name: str, path: Path) -> World:
    """The world of an archive, at its time, without gateway.yaml."""
    world = case.world(name)
    with tarfile.open(path) as archive:
        archive.extractall(world.folder, filter="data")
    saved = json.loads((world.folder / _KEYS).read_text())

    async def fill(corridor: Corridor) -> None:
        for key, (left_ms, dumped) in saved["keys"].items():
            await corridor.client.restore(key, left_ms, base64.b64decode(dumped))

    world.on_stream(fill)
    world.clock.now = saved["at"]
    return world
