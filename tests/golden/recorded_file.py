"""The file of a recording."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

Recording = dict[str, Any]
"""Results by case, each by name."""
EXPECTED = Path(__file__).with_name("verdicts.json.xz")


def read(path: Path) -> Recording:
    found: Recording = json.loads(lzma.decompress(path.read_bytes()))
    return found


def write(path: Path, recording: Recording) -> None:
    text = json.dumps(recording, ensure_ascii=False, separators=(",", ":"))
    path.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
