"""Settings: file under environment under flags, and errors that say what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import AmiraError
from server.admission import bearer, check_token, origin_allowed
from server.failures import Refusal
from server.settings import describe, load, parse_flag


def test_flags_go_over_the_environment_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "server.toml"
    file.write_text('port = 1\nhost = "0.0.0.0"\n[limits]\nmax_sessions = 1\nidle_timeout_ms = 500\nmax_uploads = 9\n')
    monkeypatch.setenv("AMIRA_SERVER_LIMITS__MAX_SESSIONS", "2")
    monkeypatch.setenv("AMIRA_SERVER_PORT", "2")
    settings = load(file, {"port": 3})
    assert (settings.port, settings.host) == (3, "0.0.0.0")
    assert (settings.limits.max_sessions, settings.limits.idle_timeout_ms, settings.limits.max_uploads) == (2, 500, 9)


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("limits.max_session=3", r"limits\.max_session.*amira serve --help"),
        ("port=-1", "port"),
        ("tls_key=key.pem", "tls_certificate"),
        ("recognizer.partials=telepathy", "telepathy"),
    ],
)
def test_wrong_settings(flag: str, said: str) -> None:
    with pytest.raises(AmiraError, match=said):
        load(None, dict([parse_flag(flag)]))


def test_wrong_ways_to_give_them(tmp_path: Path) -> None:
    with pytest.raises(AmiraError, match="cannot be read"):
        load(tmp_path / "none.toml", {})
    with pytest.raises(AmiraError, match="NAME=VALUE"):
        parse_flag("port")
    assert parse_flag('tokens=["a"]') == ("tokens", ["a"])
    assert parse_flag("host=example.org") == ("host", "example.org")


def test_every_setting_is_described() -> None:
    text = describe()
    assert "limits.max_sessions = 100  (Sessions at once.)" in text
    assert "recognizer.vad" in text


def test_tokens_and_origins() -> None:
    settings = load(None, {"tokens": ["right"], "allowed_origins": ["https://good.example"]})
    check_token(settings, [None, "right"])
    for offered in ([], [None], ["wrong"], ["righ"], ["right "]):
        with pytest.raises(Refusal, match="bearer token"):
            check_token(settings, offered)
    assert bearer("Bearer right") == "right"
    assert [bearer(header) for header in (None, "", "Basic right", "Bearer ")] == [None] * 4
    for origin, allowed in ((None, True), ("https://good.example", True), ("http://me:1", True), ("null", False)):
        assert origin_allowed(settings, origin, "me:1") is allowed
    assert "right" not in repr(settings)
