"""All mistakes in what sections say about each other."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.config.checks.callers import caller_mistakes
from gateway.config.checks.experiments import experiment_mistakes
from gateway.config.checks.guards import guard_mistakes
from gateway.config.checks.limits import limit_mistakes
from gateway.config.checks.partial import PartialConfig, readable
from gateway.config.checks.references import reference_mistakes


def cross_section_mistakes(of: PartialConfig) -> Iterator[str]:
    """Yields contradictions between sections, and settings that make no sense."""
    if not {"models", "upstreams"} <= of.config.model_fields_set:
        return  # that a section is missing is reported already; all that names it would only follow from that
    yield from reference_mistakes(of.config)
    yield from caller_mistakes(of.config)
    yield from readable(experiment_mistakes(of))
    yield from limit_mistakes(of.config)
    yield from guard_mistakes(of.config)
