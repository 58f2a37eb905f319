"""OpenTelemetry: one trace a session, from the socket to the model. Without a collector nothing is recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    from server.lane import Outcome

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

    def start_below(self, parent: trace.Span, name: str, attributes: Mapping[str, AttributeValue]) -> trace.Span:
        """A span that begins now below another."""
        return self._tracer.start_span(name, self._below(parent), attributes=attributes)

    def finish(self, span: trace.Span, end_ns: int) -> None:
        """End a span at a time of `perf_counter_ns`."""
        span.end(end_ns + self._epoch_ns)

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

    def open_final(self, parent: trace.Span, start_ns: int) -> FinalTrace | None:
        """The span of a final that is going to be recognised, from when its audio had arrived."""
        if self._provider is None:
            return None
        span = self._tracer.start_span("final", self._below(parent), start_time=start_ns + self._epoch_ns)
        return FinalTrace(self, span)

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


class FinalTrace:
    """The span of a final, while a thread works on it. Implements `pipelines.triton.tracing.CallTracer`."""

    def __init__(self, tracing: Tracing, span: trace.Span) -> None:
        self._tracing, self.span = tracing, span

    @contextmanager
    def call(self, model: str) -> Iterator[str | None]:
        """See `CallTracer.call`."""
        span = self._tracing.start_below(self.span, "triton_inference", {"model": model})
        with trace.use_span(span, end_on_exit=True):  # an error is noted on it
            yield self._tracing.traceparent(span)

    def end(self, outcome: Outcome, audio_ms: int) -> None:
        """It is recognised, or was given up."""
        self.span.set_attributes({"audio_ms": audio_ms, "attempts": outcome.attempts})
        if outcome.error is not None:
            self.span.set_status(trace.Status(trace.StatusCode.ERROR, str(outcome.error)))
        self._tracing.record(self.span, "queue", outcome.started_ns - outcome.queued_ns, outcome.started_ns, {})
        if outcome.transcript is not None:
            self._tracing.stages(self.span, outcome.transcript.spans)
        self._tracing.finish(self.span, outcome.ended_ns)


def trace_id(span: trace.Span) -> str | None:
    """The id of a span's trace, 32 hexadecimal digits; `None` where nothing is recorded."""
    context = span.get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None
