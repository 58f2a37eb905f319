"""The same over TLS: WebSocket and HTTP on one port, with a certificate made for the test."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import urllib.request
from pathlib import Path

import pytest

from amira_client import AmiraClientError, Client, Retry
from tests.fakes.serving import serving


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("this machine has no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [
        openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def test_tls(certificate: tuple[Path, Path]) -> None:
    trusted = ssl.create_default_context(cafile=str(certificate[0]))
    files = ("--set", f"tls_certificate={certificate[0]}", "--set", f"tls_key={certificate[1]}")
    with serving("--null", *files) as server:
        address = f"wss://127.0.0.1:{server.port}"
        with Client(address, ssl_context=trusted) as client:
            assert client.transcribe(bytes(32_000), 16_000) == "heard 1000 ms"
        with urllib.request.urlopen(f"https://127.0.0.1:{server.port}/healthz", context=trusted, timeout=10) as answer:
            assert answer.read() == b"ok\n"
        with (
            Client(address, retry=Retry(attempts=0)) as stranger,  # it does not know who signed the certificate
            pytest.raises(AmiraClientError, match="certificate"),
        ):
            stranger.transcribe(bytes(3_200), 16_000)
