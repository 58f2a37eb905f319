"""The server watched by the real tools: a Prometheus from Debian's package, an OTLP receiver that reads protobuf."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from amira_client import AsyncClient, Final
from pipelines.debian import UnobtainableError, download, unpack
from tests.fakes.serving import ROOT, Server, free_port, serving
from tests.fakes.world import wait_for

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def from_json(message: dict[str, Any]) -> ExportTraceServiceRequest:
    """OTLP's JSON is protobuf's, but for ids, which are hexadecimal there."""
    for resource in message["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for key in ("traceId", "spanId", "parentSpanId"):
                    span[key] = base64.b64encode(bytes.fromhex(span.get(key, ""))).decode()
    return json_format.ParseDict(message, ExportTraceServiceRequest(), ignore_unknown_fields=True)


class Receiver:
    """Collects spans."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                import gzip

                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.headers["Content-Type"].startswith("application/json"):  # Triton's exporter
                    request = from_json(json.loads(body))
                else:
                    request = ExportTraceServiceRequest.FromString(body)
                for resource in request.resource_spans:
                    for scope in resource.scope_spans:
                        outer.spans += scope.spans
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    it = Receiver()
    yield it
    it.server.shutdown()
    it.server.server_close()


async def stream(server: Server, **options: Any) -> list[Any]:
    client = AsyncClient(server.url)
    return [event async for event in client.events([bytes(3_200)] * 5, 16_000, **options)]


@pytest.mark.parametrize("way", ["header", "message"])
def test_spans_of_a_session_arrive_below_the_clients_trace(receiver: Receiver, way: str) -> None:
    async def play(server: Server) -> str:
        headers = {"traceparent": PARENT} if way == "header" else {}
        start = {"traceparent": PARENT} if way == "message" else {}
        async with AsyncClient(server.url).stream(16_000, headers=headers, **start) as session:
            await session.send(bytes(16_000))
            await session.finish()
            assert any([isinstance(event, Final) async for event in session])
            return str(session.session)

    with serving("--null", "--set", f"otlp_endpoint={receiver.url}") as server:
        session = asyncio.run(play(server))
    spans = {span.name: span for span in receiver.spans}
    assert set(spans) == {"websocket_connection", "final", "queue"}
    assert {span.trace_id.hex() for span in receiver.spans} == {TRACE}
    root, final, queue = (spans[name] for name in ("websocket_connection", "final", "queue"))
    assert root.parent_span_id.hex() == "b7ad6b7169203331"
    assert (final.parent_span_id, queue.parent_span_id) == (root.span_id, final.span_id)
    assert root.start_time_unix_nano <= final.start_time_unix_nano <= final.end_time_unix_nano
    assert queue.end_time_unix_nano <= final.end_time_unix_nano
    attributes = {item.key: item.value for item in root.attributes}
    assert attributes["session"].string_value == session
    assert attributes["outcome"].string_value == "finished"
    [ended] = [line for line in server.log if line.get("message") == "session ended"]
    assert (ended["trace_id"], ended["session"]) == (TRACE, session)


def test_a_collector_that_is_not_there_costs_nothing() -> None:
    with serving("--null", "--set", f"otlp_endpoint=http://127.0.0.1:{free_port()}") as server:
        events = asyncio.run(stream(server))
        assert events[-1].text == "heard 500 ms"
        assert server.stop() == 0
        server.log[:] = [line for line in server.log if not str(line.get("logger")).startswith("opentelemetry")]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's Prometheus, unpacked without installing it; kept for the next run where `AMIRA_TEST_CACHE` says."""
    kept = os.environ.get("AMIRA_TEST_CACHE")
    folder = Path(kept) / "prometheus" if kept else tmp_path_factory.mktemp("prometheus")
    program = folder / "usr/bin/prometheus"
    if not program.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            unpack(download("prometheus", folder, lambda message: None), folder)
        except UnobtainableError as error:
            pytest.skip(f"Debian's package 'prometheus' cannot be had here: {error}")
    if subprocess.run([program, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("Debian's Prometheus does not run here")
    return program


@pytest.mark.parametrize(("kind", "file"), [("config", "prometheus.yml"), ("rules", "alerts.yml")])
def test_prometheus_takes_our_configuration(prometheus: Path, kind: str, file: str) -> None:
    command = [prometheus.with_name("promtool"), "check", kind, file]
    done = subprocess.run(command, cwd=ROOT / "deploy" / "prometheus", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_scrapes_it(prometheus: Path, tmp_path: Path) -> None:
    def query(expression: str) -> dict[str, float]:
        address = f"http://127.0.0.1:{port}/api/v1/query?query={quote(expression)}"
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                found = json.load(answer)["data"]["result"]
        except OSError:
            return {}
        return {json.dumps(row["metric"], sort_keys=True): float(row["value"][1]) for row in found}

    port = free_port()
    with serving("--null") as server:
        asyncio.run(stream(server))
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "400ms"},
            "scrape_configs": [{"job_name": "amira", "static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}]}],
        }
        (tmp_path / "prometheus.yml").write_text(json.dumps(config))
        command = [
            prometheus, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
        ]  # fmt: skip
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            finals = 'request_latency_seconds_count{kind="final"}'
            wait_for(lambda: 1.0 in query(finals).values(), "Prometheus to have scraped the server")
            assert list(query("up").values()) == [1.0]
            assert list(query('sessions_total{outcome="finished"}').values()) == [1.0]
            assert list(query('request_latency_seconds_bucket{kind="partial",le="+Inf"}').values()) == [5.0]
        finally:
            process.terminate()
            process.wait(20)
