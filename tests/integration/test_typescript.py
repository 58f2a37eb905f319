"""The TypeScript client: its types and lint, its own tests, the same conversations with a real server, the page."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.fakes.serving import serving

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "clients" / "typescript"
PAGE = ROOT / "server" / "static" / "captions" / "js"


def missing() -> str | None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "no Node on the PATH; install Node 20 or newer and npm"
    if not (CLIENT / "node_modules" / ".package-lock.json").is_file():
        return "what the client is checked with is not installed: scripts/typescript.sh"
    return None


pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def run(*command: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=CLIENT,
        env={**os.environ, "NO_COLOR": "1", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-8_000:]
    return done.stdout


def test_lint_and_strict_types() -> None:
    run("npm", "run", "--silent", "lint")


def test_its_own_tests_and_the_golden_conversations_with_a_real_server() -> None:
    with serving("--null") as server:
        output = run("npm", "test", "--silent", environment={"AMIRA_NULL_SERVER": server.url})
    assert "fail 0" in output
    assert "skipped 0" in output


def test_the_page_has_the_scripts_of_this_client(tmp_path: Path) -> None:
    """Those that are committed are what the sources compile to; `npm run build:page` writes them."""
    run("npx", "tsc", "-p", "demo/tsconfig.json", "--outDir", str(tmp_path))
    built = {str(path.relative_to(tmp_path)): path.read_text("utf-8") for path in tmp_path.rglob("*.js")}
    committed = {str(path.relative_to(PAGE)): path.read_text("utf-8") for path in PAGE.rglob("*") if path.is_file()}
    assert committed == built


def test_the_lock_file_names_no_registry() -> None:
    assert '"resolved"' not in (CLIENT / "package-lock.json").read_text("utf-8")


def test_the_k6_script_streams_and_counts_as_its_metrics_say(tmp_path: Path) -> None:
    """One iteration under Node, where k6's modules have stand-ins."""
    wav = tmp_path / "tone.wav"
    samples = (8_000 * np.sin(np.arange(12_000) / 10)).astype(np.int16)
    soundfile.write(wav, samples, 16_000, subtype="PCM_16")
    runner = ROOT / "tests" / "fakes" / "k6" / "run.mjs"
    with serving("--null") as server:
        done = subprocess.run(
            ["node", runner, ROOT / "deploy" / "load" / "stream.js"],
            cwd=ROOT,
            env={**os.environ, "URL": server.url, "WAV": str(wav)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert server.metric("audio_seconds_total") == pytest.approx(0.75)
    result = json.loads(done.stdout)
    counted = result["counted"]
    assert counted["amira_finished"] == [1]
    assert counted["amira_errors"] == []
    assert len(counted["amira_send_lag_ms"]) == 8
    assert len(counted["amira_first_partial_ms"]) == 1
    assert len(counted["amira_partial_ms"]) >= 7
    assert len(counted["amira_final_ms"]) == 1
    assert set(result["options"]["thresholds"]) <= set(counted)
