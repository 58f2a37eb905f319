"""The TypeScript client: its types and lint, its own tests, the same conversations with a real server, the page."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

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
