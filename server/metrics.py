"""The server's Prometheus metrics, in a registry of their own. Labels are bounded: no metric grows with its clients."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from pipelines import compiled
from server.messages import Closing, Error, Final, Partial, Ready, ServerMessage
from server.tally import Counts, Distributions

LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10)
COMPUTE_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
BATCHED = ("detector", "first-pass")
SENT = {kind: kind.__name__.lower() for kind in (Ready, Partial, Final, Error, Closing)}
RATIO = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class Metrics:
    """One attribute a metric."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a time per series that nobody reads, and twice the series
        self.registry = registry = CollectorRegistry()
        for standard in (ProcessCollector, PlatformCollector, GCCollector):
            standard(registry=registry)
        self.connections = Gauge("connections", "WebSocket connections that are open", registry=registry)
        self.active_streams = Gauge("active_streams", "Sessions that are open", registry=registry)
        self.sessions = Counter(
            "sessions_total",
            "Sessions that ended, by how: finished, vanished, or an error code",
            ["outcome"],
            registry=registry,
        )
        self.errors = Counter("errors_total", "Errors sent to clients", ["code"], registry=registry)
        self.audio_s = Counter("audio_seconds_total", "Audio received", registry=registry)
        self.messages = Counts("messages_sent", "Messages sent", "type", SENT.values())
        self.latency_s = Distributions(
            "request_latency_seconds",
            "From the audio that made an answer possible to the answer: partial, final, or a whole HTTP request",
            "kind",
            ("partial", "final", "transcribe"),
            LATENCY_S,
        )
        self.endpoint_delay_s = Histogram(
            "endpoint_delay_seconds",
            "From the end of a segment's audio to its final",
            buckets=LATENCY_S,
            registry=registry,
        )
        self.queue_s = Histogram(
            "queue_time_seconds", "Time that work waited for a worker", ["kind"], buckets=COMPUTE_S, registry=registry
        )
        self.inference_s = Distributions(
            "gpu_inference_time_seconds",
            "Time in a model (the name is the dashboards'; a CPU counts, too): detector, first-pass, partial, final",
            "stage",
            (*BATCHED, "partial", "final"),
            COMPUTE_S,
        )
        self.real_time_factor = Histogram(
            "real_time_factor", "Time of a final over its audio", buckets=RATIO, registry=registry
        )
        self.batch = Distributions("batch_size", "Sessions in one batch", "stage", BATCHED, BATCH)
        self.queued = Gauge("queued_jobs", "Segments that wait for a worker", registry=registry)
        self.buffered = Gauge("buffered_audio_bytes", "Memory of the sessions' audio", registry=registry)
        self.backend_errors = Counter(
            "triton_errors_total",
            "Failures of the inference backend (Triton, or in process), by stage",
            ["stage"],
            registry=registry,
        )
        self.retries = Counter(
            "retries_total", "Segments that were recognised again after a failure", registry=registry
        )
        self.breaker = Gauge(
            "breaker_state", "Circuit breaker of the backend: 0 closed, 1 half-open, 2 open", registry=registry
        )
        self.compiled = Gauge("sessions_compiled", "Whether the session logic runs compiled", registry=registry)
        self.compiled.set(compiled.active())
        self.ready = Gauge("ready", "Whether new sessions are taken", registry=registry)
        for collector in (self.messages, self.latency_s, self.inference_s, self.batch):
            registry.register(collector)
        self.latency_partial = self.latency_s.of["partial"]
        self.latency_final = self.latency_s.of["final"]

    def sent(self, message: ServerMessage) -> None:
        """Count a message to a client."""
        self.messages.of[SENT[type(message)]] += 1
