"""The tables of a result, as Markdown."""

from __future__ import annotations

from math import inf
from statistics import median
from typing import Any


def all_tables(result: dict[str, Any]) -> dict[str, str]:
    """The table of every section by its marker; of one that was not measured, that it was not."""
    sections = {"null": _null, "real": _real, "rivals": _rivals, "legacy": _legacy, "both": _rivals, "both-real": _real}
    return {
        name: make(result[name]) if name in result else f"Not measured: section `{name}` has no stored result."
        for name, make in sections.items()
    }


LATE_MS = 1_000
"""A server whose finals come later than this does not keep up with the streams."""


def _table(headings: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    head, *body = (f"| {' | '.join(map(str, line))} |" for line in (headings, *rows))
    return "\n".join([head, "|---" * len(headings) + "|", *body])


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _middle(values: list[float | None]) -> tuple[float, float, float]:
    """The median of several steps, the least and the most; endless where a step has no value."""
    known = [inf if value is None else value for value in values]
    return median(known), min(known), max(known)


def _bar(reached: bool) -> str:
    return "yes" if reached else "no"


def _null(found: dict[str, Any]) -> str:
    share, worst, best = _middle([step["server"]["partials_within_1_ms"] for step in found["hundred"]])
    idle = found["idle_bytes_per_connection"]
    rows: list[tuple[Any, ...]] = [
        (
            "own time below 1 ms at 100 streams",
            "99 % of the chunks",
            f"{share:.2%} ({worst:.2%} to {best:.2%})",
            _bar(share >= 0.99),
        ),
        ("memory of an idle connection", "48 KiB", f"{idle / 1024:.1f} KiB", _bar(idle <= 48 * 1024)),
    ]
    for name, steps in found["many"].items():
        lost, errors = (sum(step[kind] for step in steps) for kind in ("lost_ms", "errors"))
        late, least, most = _middle([step["latency_ms"]["final"]["p99"] for step in steps])
        said = f"{lost} ms lost, {errors} errors; finals p99 {late:.0f} ms ({least:.0f} to {most:.0f}) after due audio"
        kept = not lost + errors and late < LATE_MS  # in real time: it does not fall behind
        bar = ("-", said, "-") if "interpreted" in name else ("nothing lost or late", said, _bar(kept))
        rows.append((f"{steps[0]['streams']} real-time streams, {name}", *bar))
    return _table(("the server alone", "bar", "measured", "reached"), rows)


def _real(found: dict[str, Any]) -> str:
    rows = [row for name, each in found["by"].items() for row in _real_rows(name, each)]
    return _table(("the streaming model", "", "bar", "measured", "reached"), rows)


def _real_rows(name: str, found: dict[str, Any]) -> list[tuple[Any, ...]]:
    buckets = {float(limit): count for limit, count in found["compute"].items()}
    within = buckets[0.01] / buckets[float("inf")] if buckets[float("inf")] else 0.0
    seventy = found["seventy"]
    loads = [step["latency_ms"]["partial"] for step in seventy]
    (p50, *_), (p99, *_) = (_middle([load[quantile] for load in loads]) for quantile in ("p50", "p99"))
    ratio, least, most = _middle([load["p99"] / load["p50"] for load in loads])
    words = found["words"]
    alone, loaded = words["alone"], words["loaded"]
    same = sum(alone[clip] == loaded[clip] for clip in alone)
    return [
        (name, "last byte of a chunk to its partial, one stream", "median below 10 ms", f"{within:.1%} below 10 ms",
         _bar(within >= 0.5)),
        (name, f"p99 / p50 of the partials at {seventy[0]['streams']} streams (70 %)", "2.5",
         f"{ratio:.1f} ({least:.1f} to {most:.1f}); p50 {_ms(p50)}, p99 {_ms(p99)} ms", _bar(ratio <= 2.5)),
        (name, f"words of a clip beside {found['full']['streams']} streams and alone", "equal",
         f"{same} of {len(alone)} clips the same", _bar(words["loaded_throughout"] and same == len(alone))),
    ]  # fmt: skip


def _rivals(found: dict[str, Any]) -> str:
    rows: list[tuple[Any, ...]] = []
    for name, each in found["searches"].items():
        fine = [step for step in each["steps"] if step["streams"] == each["streams"]]
        rows.append(
            (name, each["streams"], _ms(fine[-1]["p50"]) if fine else "-", _ms(fine[-1]["p99"]) if fine else "-")
        )
    text = _table(("server", "streams below 300 ms", "p50 ms there", "p99 ms there"), rows)
    if found["unavailable"]:
        return f"{text}\n\nNot run: {found['unavailable']}."
    lines = []
    for precision in ("FP32", "INT8"):
        ours, theirs = (
            max(
                each["streams"]
                for name, each in found["searches"].items()
                if name.startswith(who) and precision in name
            )
            for who in ("AMIRA", "sherpa")
        )
        ratio = f"{ours / theirs:.2f}" if theirs else "no stream of theirs"
        lines.append(f"{precision}, the best of each: {ours} to {theirs}, ratio {ratio}; bar 1.5.")
    return "\n\n".join([text, *lines])


def _legacy(found: dict[str, Any]) -> str:
    one, ours = found["legacy"], found["ours"]
    rows: list[tuple[Any, ...]]
    rows = [("legacy", 1, _ms(one["p99"]), f"{found['legacy_wer']['value']:.2%}", "-", "-")]
    for name, each in ours.items():
        times = each["streams"]
        reached = times >= 10 and each["wer"]["value"] <= found["legacy_wer"]["value"]
        said = (f"AMIRA, {name}", times, f"below {_ms(each['limit_ms'])}", f"{each['wer']['value']:.2%}")
        rows.append((*said, f"{times}x", _bar(reached)))
    return _table(
        (
            "server",
            "streams",
            "p99 ms, partials and finals",
            "WER",
            "throughput at equal p99",
            "bar: 10x, WER no worse",
        ),
        rows,
    )
