"""Makes calls by instrumented client libraries, in their environment, and exports the spans by OTLP.

    python traced_calls.py DIALECT UPSTREAM ENDPOINT TOKEN

DIALECT: otel, openllmetry or openinference. UPSTREAM: the origin of one that speaks OpenAI's and Anthropic's API. In
each of two traces: a plain and a streamed call of openai's client, and, where the dialect has an instrumentation of it,
one of anthropic's. Prints the number of calls.
"""

from __future__ import annotations

import os
import sys

TRACES = 2
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def instrument(dialect: str) -> bool:
    """Returns whether anthropic's client is instrumented, too."""
    if dialect == "otel":
        os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
        os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "span_only"
        from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

        OpenAIInstrumentor().instrument()
        return False
    if dialect == "openllmetry":
        from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor
    else:
        from openinference.instrumentation.anthropic import AnthropicInstrumentor
        from openinference.instrumentation.openai import OpenAIInstrumentor
    OpenAIInstrumentor().instrument()
    AnthropicInstrumentor().instrument()
    return True


def main(dialect: str, upstream: str, endpoint: str, token: str) -> None:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": f"shop-{dialect}"}))
    exporter = OTLPSpanExporter(endpoint=endpoint, headers={"authorization": f"Bearer {token}"})
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    both = instrument(dialect)

    import anthropic
    import openai

    first = openai.OpenAI(base_url=f"{upstream}/v1", api_key="x")
    second = anthropic.Anthropic(base_url=upstream, api_key="x")
    made = 0
    for _ in range(TRACES):
        with trace.get_tracer("task").start_as_current_span("task"):
            first.chat.completions.create(model="fake-model", messages=QUESTION, temperature=0.5)  # type: ignore[call-overload]
            for _ in first.chat.completions.create(model="fake-model", messages=QUESTION, stream=True):  # type: ignore[call-overload]
                pass
            made += 2
            if both:
                second.messages.create(model="fake-model", max_tokens=64, messages=QUESTION)  # type: ignore[arg-type]
                made += 1
    provider.shutdown()
    print(made)


if __name__ == "__main__":
    main(*sys.argv[1:])
