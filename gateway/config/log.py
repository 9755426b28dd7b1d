"""The section `log` of gateway.yaml."""

from __future__ import annotations

from typing import Literal

from gateway.config.types import Section

Format = Literal["auto", "json", "text"]


class LogConfig(Section):
    """format: auto: JSON where stderr is no terminal, words where it is one. level: the least that is written. access:
    a line for each call; it never holds a key, a header or anything of what was said."""

    format: Format = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"
    access: bool = True
