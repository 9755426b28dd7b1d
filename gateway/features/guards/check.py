"""Findings of `gateway check` on guards: scorers that cannot be guards, and guards that see only a part of a text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gateway.config.config import Config
from gateway.config.guards import REFUSING
from gateway.features.guards.scorers import build_guards, needed_sections
from gateway.features.manifest import ConfigFindings
from gateway.scoring.asker import ExternalServices
from gateway.scoring.http_client import HttpConnections
from gateway.scoring.registry import BuiltScorers
from gateway.scoring.threads import ScoringThreads


def findings(config: Config, built: BuiltScorers, store: str) -> ConfigFindings:
    """Builds every guard that a scorer judges for. Sends no request."""
    if not config.guards:
        return ConfigFindings()
    threads = ScoringThreads()
    outside = ExternalServices(HttpConnections(), directory=Path())
    try:
        sections = needed_sections(config.guards.values(), config.scorers)
        mistakes = build_guards(config.guards, sections, outside, threads).mistakes
    finally:
        threads.close()
    return ConfigFindings(refusals=mistakes, cautions=tuple(_cautions(config)))


def _cautions(config: Config) -> Iterator[str]:
    if config.sampling.rate == 0 and any(guard.action == "observe" for guard in config.guards.values()):
        yield ("guards: sampling.rate is 0, so that only calls with a hit are recorded: recall stays unknown")
    candidates = {ref.guard for experiment in config.experiments.values() for ref in experiment.arms.values()}
    for name, guard in config.guards.items():
        promoted = "ramp" in guard.model_fields_set and guard.ramp.to in REFUSING
        if guard.if_late is None and (guard.action in REFUSING or promoted or name in candidates):
            yield (
                f"guards.{name}.if_late is not set: a call for which the guard gives no score is refused "
                "where its action is redact or block; before, unset meant `pass`; write `if_late: block`, or `pass`"
            )
