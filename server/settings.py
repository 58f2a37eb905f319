"""What an operator can set: a TOML file, environment variables over it, flags over both."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from pipelines import compiled
from pipelines.errors import AmiraError
from pipelines.streaming import StreamingConfig

PREFIX = "AMIRA_SERVER_"


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Group):
    """What one client, and all together, may take. Beyond it a client gets an error; nobody else notices."""

    max_sessions: int = Field(default=100, ge=1, description="Sessions at once.")
    max_connections: int = Field(default=4_000, ge=1, description="Connections at once, sessions or not.")
    max_message_bytes: int = Field(default=262_144, ge=1_024, description="Largest WebSocket message.")
    max_ahead_ms: int = Field(default=30_000, ge=1_000, description="How far audio may run ahead of real time.")
    backlog_ms: int = Field(default=10_000, ge=1_000, description="Audio of a session that waits to be looked at.")
    start_timeout_ms: int = Field(default=10_000, ge=100, description="Time to send `start`.")
    idle_timeout_ms: int = Field(default=60_000, ge=100, description="Time without any message.")
    max_session_ms: int = Field(default=14_400_000, ge=1_000, description="Audio of one session.")
    slow_client_ms: int = Field(default=10_000, ge=100, description="Time that a client may not read.")
    max_upload_bytes: int = Field(default=104_857_600, ge=1_024, description="Largest file of an HTTP request.")
    max_upload_s: float = Field(default=7_200, ge=1, description="Longest recording of an HTTP request.")
    max_uploads: int = Field(default=4, ge=1, description="HTTP transcriptions at once.")
    settle_timeout_ms: int = Field(default=15_000, ge=100, description="Time for a final, retries included.")


class Endpointing(_Group):
    """When a segment ends, where the client does not say."""

    silence_ms: int = Field(default=500, ge=100, le=5_000)
    max_segment_ms: int = Field(default=20_000, ge=2_000, le=30_000)
    pad_ms: int = Field(default=200, ge=0, le=1_000)


class Settings(BaseSettings):
    """Every setting of the server; `AMIRA_SERVER_LIMITS__MAX_SESSIONS=200` sets `limits.max_sessions`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__")

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535, description="0 takes a free one.")
    tokens: tuple[SecretStr, ...] = Field(default=(), description="Bearer tokens; empty: nobody needs one.")
    allowed_origins: tuple[str, ...] = Field(
        default=(), description="Pages of other origins that may connect; `*` for all. The server's own may always."
    )
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    languages: tuple[str, ...] = ("en",)
    grace_ms: int = Field(default=10_000, ge=0, description="Time that sessions have to finish at shutdown.")
    workers: int = Field(default=1, ge=1, le=64, description="Threads that settle segments.")
    sessions: str = Field(
        default="auto",
        pattern=f"^({'|'.join(compiled.FORMS)})$",
        description=f"Form of the session logic; auto: compiled where `{compiled.SETUP}` has made it so.",
    )
    round_streams: int = Field(
        default=256,
        ge=1,
        description="Streams that are heard in one batch. More do not stay in a CPU's caches; where many cost as much "
        "each as few, as with compiled loops, 8 wait least.",
    )
    otlp_endpoint: str | None = Field(default=None, description="OTLP/HTTP collector, e.g. http://localhost:4318.")
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    models_dir: Path | None = None
    limits: Limits = Limits()
    endpointing: Endpointing = Endpointing()
    recognizer: StreamingConfig = StreamingConfig()

    @model_validator(mode="after")
    def _both_or_none(self) -> Settings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("TLS needs both tls_certificate and tls_key")
        return self


def load(path: Path | None, flags: Mapping[str, Any]) -> Settings:
    """Settings from a file, the environment and flags, the later over the earlier.

    Args:
        path: A TOML file, `None` for none.
        flags: Dotted names to values, e.g. `limits.max_sessions`.

    Raises:
        AmiraError: The file cannot be read, or a setting does not exist or is out of range.
    """
    try:
        file = tomllib.loads(path.read_text("utf-8")) if path else {}
    except (OSError, ValueError) as error:
        raise AmiraError(f"server configuration {path} cannot be read: {error}") from error

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=file)

    nested: dict[str, Any] = {}
    for name, value in flags.items():
        _put(nested, name.split("."), value)
    try:
        return Loaded(**nested)
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(str(part) for part in problem["loc"])
        raise AmiraError(f"setting '{name}' is wrong: {problem['msg']}. List them with: amira serve --help") from error
    except SettingsError as error:
        raise AmiraError(f"a variable {PREFIX}... is wrong: {error}. Lists are JSON there") from error


def parse_flag(text: str) -> tuple[str, Any]:
    """`limits.max_sessions=10` as name and value; values are TOML, and what is not TOML is a string.

    Raises:
        AmiraError: There is no `=`.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise AmiraError(f"--set '{text}' is not NAME=VALUE, e.g. limits.max_sessions=200")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value


def describe() -> str:
    """Every setting with its default, one a line."""
    return "\n".join(_lines(Settings, ""))


def _lines(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        default = field.default
        if isinstance(default, BaseModel):
            yield from _lines(type(default), f"{prefix}{name}.")
        else:
            shown = "" if default in (None, ()) else f" = {default}"
            yield f"{prefix}{name}{shown}" + (f"  ({field.description})" if field.description else "")


def _put(target: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        target = target.setdefault(part, {})
    target[path[-1]] = value
