"""Sends spans of requests to models with the exporters of OpenTelemetry, and prints what it sent.

usage: push_spans.py grpc|http PORT COUNT
"""

import json
import sys

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

CANARY = "CANARY: words of a person"

protocol, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
if protocol == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import Compression, OTLPSpanExporter

    inner = OTLPSpanExporter(
        endpoint=f"http://127.0.0.1:{port}", insecure=True, timeout=60, compression=Compression.Gzip
    )
else:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import Compression, OTLPSpanExporter

    inner = OTLPSpanExporter(
        endpoint=f"http://127.0.0.1:{port}/v1/traces", timeout=60, compression=Compression.Gzip
    )

results = []


class Watched(SpanExporter):
    """The exporter, with its results."""

    def export(self, spans):
        result = inner.export(spans)
        results.append(result)
        return result

    def shutdown(self):
        inner.shutdown()


resource = Resource.create({"service.name": "shop-" + protocol, "deployment.note": CANARY})
provider = TracerProvider(resource=resource)
provider.add_span_processor(BatchSpanProcessor(Watched(), max_queue_size=8192, max_export_batch_size=1024))
tracer = provider.get_tracer("counterpart")

sent = {"requests": 0, "tokens": 0}
for number in range(count):
    tokens = {"gen_ai.usage.input_tokens": 100 + number, "gen_ai.usage.output_tokens": 10}
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a", **tokens}
    with tracer.start_as_current_span("invoke_agent", attributes=agent):
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.response.model": "gpt-4o-2024-08-06",
            "gen_ai.response.id": f"chatcmpl-{protocol}-{number}",
            "gen_ai.input.messages": CANARY * 20,
            "gen_ai.output.messages": CANARY,
            "gen_ai.request.stop_sequences": [CANARY],
            "cms.task_type": "classification",
            "cms.complexity": "routine",
            **tokens,
        }
        with tracer.start_as_current_span(CANARY, attributes=attributes) as span:
            span.add_event("gen_ai.content.prompt", {"gen_ai.prompt": CANARY})
        with tracer.start_as_current_span("execute_tool", attributes={"gen_ai.operation.name": "execute_tool"}):
            pass
        with tracer.start_as_current_span("GET /", attributes={"url.full": CANARY}):
            pass
    sent["requests"] += 1
    sent["tokens"] += sum(tokens.values())
provider.shutdown()
assert results and all(result is SpanExportResult.SUCCESS for result in results), results
sent["messages"] = len(results)
print(json.dumps(sent))
