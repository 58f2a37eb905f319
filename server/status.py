"""A small page for people: what this server is and how it is doing."""

from __future__ import annotations

import html

from pipelines import compiled
from server.gateway import Gateway

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>AMIRA server</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; width: 100% }}
td {{ padding: .3rem 0; border-bottom: 1px solid #ddd }}
td:last-child {{ text-align: right; font-variant-numeric: tabular-nums }}
</style>
<h1>AMIRA server</h1>
<table>
{rows}
</table>
<p><a href="/captions/">Live captions</a>: speak, and see the words.</p>
<p>For programs: <a href="/readyz">readiness</a>, <a href="/metrics">metrics</a>.
Speech goes to <code>/v1/stream</code> (WebSocket) or <code>POST /v1/transcribe</code>.</p>
</html>
"""


def status_page(gateway: Gateway, seconds: float) -> str:
    """The page, as of now."""
    limit = gateway.settings.limits.max_sessions
    state = "draining" if gateway.draining else "ready" if gateway.ready else "at capacity"
    rows = {
        "State": state,
        "Model": gateway.model,
        "Sessions": f"{gateway.session_count} of {limit}",
        "Session logic": "compiled" if compiled.active() else "interpreted",
        "Connections": str(gateway.connection_count),
        "Segments waiting": str(gateway.lane.depth),
        "Up for": f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}",
    }
    cells = "\n".join(f"<tr><td>{name}</td><td>{html.escape(value)}</td></tr>" for name, value in rows.items())
    return _PAGE.format(rows=cells)
