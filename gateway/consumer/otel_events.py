"""Scores as OpenTelemetry `gen_ai.evaluation.result` events, each a child of the span of its call.

The event has no explanation: a judge's words may quote the answer. The span of a call that belongs to its client's
trace is found by `gen_ai.response.id`, which the span has as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber

from gateway.config.types import OtelConfig
from gateway.consumer.entry_scoring import ReadEntry
from gateway.consumer.otel_content import ContentSpans
from gateway.core.exchange import Exchange
from gateway.core.score import ScoreResult
from gateway.observability.tracing import below, events, ids_of

NAME = "gen_ai.evaluation.result"


class ScoreEvents:
    """Emits the events of one consumer."""

    def __init__(self, otel: OtelConfig) -> None:
        self._sample = otel.sample
        self._content = ContentSpans(otel) if otel.content else None
        self._provider = events(otel)
        self._logger = self._provider.get_logger("gateway.evals")

    def emit(self, read: Iterable[ReadEntry]) -> None:
        for each in read:
            if each.judged is not None and isinstance(each.record, Exchange):
                if self._content is not None:
                    self._content.emit(each.judged)
                for result in each.judged.results:
                    self._logger.emit(self._event(each.record, result))

    def _event(self, exchange: Exchange, result: ScoreResult) -> LogRecord:
        ids = ids_of(exchange.id, None, self._sample)
        return LogRecord(
            event_name=NAME,
            timestamp=int((exchange.received + exchange.total_s) * 1e9),
            severity_number=SeverityNumber.INFO,
            context=below(ids.trace, ids.span, ids.sampled),
            attributes=attributes(exchange, result),
        )

    def close(self) -> None:
        """Sends what is queued."""
        if self._content is not None:
            self._content.close()
        self._provider.shutdown()


def attributes(exchange: Exchange, result: ScoreResult) -> dict[str, Any]:
    found: dict[str, Any] = {
        "gen_ai.evaluation.name": result.scorer,
        "gen_ai.response.id": exchange.id,
        "gen_ai.request.model": exchange.alias,
        "gen_ai.response.model": exchange.target.model,
        "gateway.evaluation.status": result.status,
        "gateway.evaluation.version": result.version,
        "gateway.inclusion_probability": exchange.pi * result.pi,
    }
    if result.score is not None:
        found["gen_ai.evaluation.score.value"] = result.score.value
        if result.score.label is not None:
            found["gen_ai.evaluation.score.label"] = result.score.label
    if result.status in ("error", "timeout", "budget"):
        found["error.type"] = result.status
    if exchange.experiment is not None:
        found["gateway.experiment"], found["gateway.arm"] = exchange.experiment, exchange.arm or ""
    return found
