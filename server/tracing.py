"""OpenTelemetry: one trace a session, from the socket to the model. Without a collector nothing is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

    from pipelines.contracts import Span

_NAMES = {"ingest": "audio_preprocessing", "acoustic": "acoustic_model"}


class Tracing:
    """Opens and closes spans."""

    def __init__(self, otlp_endpoint: str | None) -> None:
        self._propagator = TraceContextTextMapPropagator()
        self._provider: TracerProvider | None = None
        if otlp_endpoint is None:
            self._tracer: trace.Tracer = trace.NoOpTracer()
            return
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        self._provider = TracerProvider(resource=Resource.create({"service.name": "amira-server"}))
        exporter = OTLPSpanExporter(endpoint=f"{otlp_endpoint.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1_000))
        self._tracer = self._provider.get_tracer("amira.server")
        # perf_counter_ns has no epoch; the difference is taken once, so spans of one process fit each other.
        self._epoch_ns = time_ns() - perf_counter_ns()

    @property
    def enabled(self) -> bool:
        """Whether spans go anywhere."""
        return self._provider is not None

    def start(
        self, name: str, traceparent: str | None = None, attributes: Mapping[str, AttributeValue] | None = None
    ) -> trace.Span:
        """A span that begins now, below the client's where it sent one."""
        context = self._propagator.extract({"traceparent": traceparent}) if traceparent else None
        return self._tracer.start_span(name, context, attributes=attributes)

    def record(
        self, parent: trace.Span, name: str, start_ns: int, end_ns: int, attributes: Mapping[str, AttributeValue]
    ) -> trace.Span | None:
        """A span that is over already, in `perf_counter_ns`."""
        if self._provider is None:
            return None
        span = self._tracer.start_span(
            name, self._below(parent), attributes=attributes, start_time=start_ns + self._epoch_ns
        )
        span.end(end_ns + self._epoch_ns)
        return span

    def stages(self, parent: trace.Span | None, spans: Sequence[Span]) -> None:
        """The stages of a recogniser, below a span."""
        if parent is not None:
            for stage in spans:
                name = _NAMES.get(stage.stage, stage.stage)
                self.record(parent, name, stage.start_ns, stage.start_ns + stage.duration_ns, {})

    def traceparent(self, span: trace.Span) -> str | None:
        """The span as a W3C header, to hand on."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self._below(span))
        return carrier.get("traceparent")

    def close(self) -> None:
        """Send what is left."""
        if self._provider is not None:
            self._provider.shutdown()

    @staticmethod
    def _below(span: trace.Span) -> Context:
        return trace.set_span_in_context(span)


def trace_id(span: trace.Span) -> str | None:
    """The id of a span's trace, 32 hexadecimal digits; `None` where nothing is recorded."""
    context = span.get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None
