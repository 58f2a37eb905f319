"""The table of a load run."""

from __future__ import annotations

from typing import Any

HEADINGS = (
    "streams", "errors", "lost ms", "partial p50/p99 ms", "from send", "final p50/p99 ms", "WER", "CPU s per audio s",
    "RSS MiB", "send lag p99 ms",
)  # fmt: skip


def row(step: dict[str, Any]) -> tuple[str, ...]:
    """A step as a row of the table."""
    latency = step["latency_ms"]
    wer = step["wer"]
    return (
        str(step["streams"]),
        str(step["errors"]),
        str(step["lost_ms"]),
        _pair(latency["partial"]),
        _pair(latency["partial_from_send"]),
        _pair(latency["final"]),
        "-" if wer is None else f"{wer['value']:.1%}",
        "-" if step["server"]["cpu_s_per_audio_s"] is None else f"{step['server']['cpu_s_per_audio_s']:.4f}",
        f"{step['server']['rss_mib']:.0f}",
        "-" if latency["send_lag"]["p99"] is None else f"{latency['send_lag']['p99']:.1f}",
    )


def _pair(values: dict[str, Any]) -> str:
    return "-" if values["p50"] is None else f"{values['p50']:.1f} / {values['p99']:.1f}"
