"""The span of a run, sent once the run is quiet: the parent of the spans that gateways have sent of its calls.

Its ids are derived from the run's, as those of the calls are (observability/tracing.py). A run that continues is sent
again, with its later end. It has no content.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import SpanKind

from gateway.config.types import OtelConfig
from gateway.features.runs.export import SCORE_EVENT, about_run, about_score
from gateway.observability.tracing import run_ids, tracing
from gateway.store.query import Found


class _RunIds(IdGenerator):
    """Returns the ids of the run whose span begins. One thread begins all spans."""

    trace = span = 0

    def generate_trace_id(self) -> int:
        return self.trace

    def generate_span_id(self) -> int:
        return self.span


class RunSpans:
    def __init__(self, otel: OtelConfig) -> None:
        self._sample = otel.sample
        self._next = _RunIds()
        self._provider = tracing(otel, self._next)
        self._tracer = self._provider.get_tracer("gateway.evals")

    def emit(self, run: Found) -> None:
        """run: as rows.summaries has it."""
        ids = run_ids(run["run_id"], self._sample)
        if not ids.sampled:
            return
        self._next.trace, self._next.span = ids.trace, ids.span
        span = self._tracer.start_span(
            f"invoke_agent {run['alias']}",
            context=Context(),
            kind=SpanKind.INTERNAL,
            attributes=_present(about_run(run)),
            start_time=int(run["began"] * 1e9),
        )
        for score in run["scores"]:
            span.add_event(SCORE_EVENT, _present(about_score(score)), int(score["created"] * 1e9))
        span.end(int(run["ended"] * 1e9))

    def close(self) -> None:
        """Sends what waits."""
        self._provider.shutdown()


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
