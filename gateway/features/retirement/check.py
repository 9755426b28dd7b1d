"""Findings of `gateway check` on models that their providers retire."""

from __future__ import annotations

import time

from gateway.config.config import Config
from gateway.config.retirements import day_of, retiring_targets
from gateway.core.wildcards import STAR
from gateway.features.manifest import ConfigFindings
from gateway.scoring.registry import BuiltScorers


def findings(config: Config, built: BuiltScorers, store: str) -> ConfigFindings:
    """Cautions: one for every model that is announced today. store: its URL."""
    if not retiring_targets(config) and not any(STAR in alias for alias in config.models):
        return ConfigFindings()
    # Imported here: a notice has a draft and its price, which need numpy, and few configs have one.
    from gateway.features.retirement.notices import due_notices, read_daily_calls

    today = day_of(time.time())
    notices = due_notices(config, read_daily_calls(store, today), today)
    return ConfigFindings(cautions=tuple(notice.text for notice in notices))
