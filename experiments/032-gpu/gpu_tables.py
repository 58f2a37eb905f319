"""The README's tables of a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.gpu import CPU_LANES, GPU_LANES
from harness.gpu_floor import floor_s

COUNTER_S = 0.1
"""The driver counts energy about so often; what took less time has no power."""
CORES = 2
"""Of the machine that a GPU's throughput is held against."""


def all_tables(result: Mapping[str, Any]) -> dict[str, str]:
    """The tables by their markers; those of sections that were not measured say so."""
    made = {"machine": _machine(result)}
    for name, table in (
        ("lanes", _lanes),
        ("bars", _bars),
        ("kernels", _kernels),
        ("server", _server),
        ("words", _words),
    ):
        section = "lanes" if name == "bars" else name
        made[name] = table(result) if section in result else "Not measured."
    return made


def _machine(result: Mapping[str, Any]) -> str:
    sections: dict[str, list[str]] = {}
    for name in ("lanes", "kernels", "server"):
        if name in result:
            sections.setdefault(_measured_on(result[name]), []).append(name)
    if len(sections) == 1:
        return next(iter(sections))
    return "\n".join(f"- {', '.join(names)}: {machine}" for machine, names in sections.items())


def _measured_on(section: Mapping[str, Any]) -> str:
    gpu, cpu = section["gpu"], section["fingerprint"]["cpu"]
    features = [name for name in ("avx512f", "avx512_vnni", "amx_int8") if name in cpu["features"]]
    return (
        f"{gpu.get('name', 'a GPU that nobody names')}, driver {gpu.get('driver', 'unknown')}, beside one core at a "
        f"time of {cpu['model']} ({', '.join(features) or 'AVX2'})."
    )


def _ms(times: Any, quantile: float) -> str:
    return f"{1e3 * float(np.quantile(times, quantile)):.2f}"


def _lanes(result: Mapping[str, Any]) -> str:
    section = result["lanes"]
    rows = [
        "| lane | streams in a step | p50 ms | p99 ms | on the device, p50 ms | times the floor | audio s/s | W |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, lane in section["lanes"].items():
        if lane["status"] != "ok":
            rows.append(f"| {name} | not measured | {lane['reason']} |  |  |  |  |  |")
            continue
        for row in lane["rows"]:
            device = _ms(row["device_s"], 0.5) if row["device_s"] else ""
            times = ""
            if row["device_s"]:
                times = f"{float(np.median(row['device_s'])) / floor_s(section['floor'], row['batch']):.1f}"
            told = row["watts"] is not None and row["device_s"] and sum(row["times_s"]) > COUNTER_S
            watts = f"{row['watts']:.0f}" if told else ""
            rows.append(
                f"| {name} | {row['batch']} | {_ms(row['times_s'], 0.5)} | {_ms(row['times_s'], 0.99)} | {device} | "
                f"{times} | {row['audio_s_per_s']:.0f} | {watts} |"
            )
    return "\n".join(rows)


def _bars(result: Mapping[str, Any]) -> str:
    section = result["lanes"]
    lanes = {name: lane for name, lane in section["lanes"].items() if lane["status"] == "ok"}
    gpu, cpu = ({name: lanes[name] for name in side if name in lanes} for side in (GPU_LANES, CPU_LANES))
    core = max(lane["audio_s_per_s"] for lane in cpu.values())
    rows = ["| bar | lane | measured | reached |", "|---|---|---:|---|"]
    for name, lane in gpu.items():
        by_batch = {row["batch"]: row for row in lane["rows"]}
        one = 1e3 * float(np.median(by_batch[1]["times_s"]))
        rows.append(f"| a chunk with its context below 1 ms at the median | {name} | {one:.2f} ms | {_yes(one < 1)} |")
        if 64 in by_batch:
            times = by_batch[64]["audio_s_per_s"] / (CORES * core)
            rows.append(
                f"| 64 streams: 20 times the audio a second of {CORES} cores | {name} | {times:.1f} | "
                f"{_yes(times >= 20)} |"
            )
        nearest = min(
            float(np.median(row["device_s"])) / floor_s(section["floor"], row["batch"]) for row in lane["rows"]
        )
        rows.append(f"| within three times the larger floor | {name} | {nearest:.1f} | {_yes(nearest <= 3)} |")
        streams = lane["streams_p99"]
        rows.append(
            f"| streams whose p99 is below {1e3 * streams['goal_s']:.0f} ms, planned | {name} | "
            f"{streams['streams']} |  |"
        )
    for name, lane in cpu.items():
        streams = lane["streams_p99"]
        rows.append(
            f"| streams whose p99 is below {1e3 * streams['goal_s']:.0f} ms, planned, one core | {name} | "
            f"{streams['streams']} |  |"
        )
    return "\n".join(rows)


def _kernels(result: Mapping[str, Any]) -> str:
    section = result["kernels"]
    rate = result["kernels"]["bytes_per_s"]
    rows = [
        f"| kernel | {section['cpu']}, one core, ms | cupy, from and to the host, ms | on the device, ms | floor, ms |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, case in section["cases"].items():
        cells = ["" if case[who] is None else _ms(case[who], 0.5) for who in ("cpu_s", "cupy_s", "device_s")]
        rows.append(f"| {name} | {' | '.join(cells)} | {1e3 * case['bytes'] / rate:.3f} |")
    return "\n".join(rows)


def _server(result: Mapping[str, Any]) -> str:
    section = result["server"]
    rows = [
        "| server, one core | partials of one stream: p50 | below 5 ms | below 10 ms | "
        f"streams with p99 below {section['limit_ms']:.0f} ms | p50 ms there | p99 ms there |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, alone in section["alone"].items():
        search = section["searches"][name]
        [there] = [step for step in search["steps"] if step["fine"] and step["streams"] == search["streams"]][-1:]
        within = {float(limit.replace("+Inf", "inf")): count for limit, count in alone["buckets"].items()}
        rows.append(
            f"| {name} | {_between(within, 0.5)} | {_share(within, 0.005)} | {_share(within, 0.01)} | "
            f"{search['streams']} | {there['p50']:.1f} | {there['p99']:.1f} |"
        )
    return "\n".join(rows)


def _words(result: Mapping[str, Any]) -> str:
    section = result["words"]
    rows = [
        f"{section['clips']} clips of {', '.join(section['corpora'])}, {section['audio_s'] / 60:.0f} minutes; FP32 on "
        f"the CPU has a word error rate of {100 * section['wer']:.1f} %.\n",
        "| lane | clips that say the same | points of word error rate above FP32 (95 %) |",
        "|---|---:|---:|",
    ]
    for name, lane in section["lanes"].items():
        points = [100 * lane[key] for key in ("difference", "low", "high")]
        rows.append(f"| {name} | {lane['equal']} | {points[0]:+.2f} ({points[1]:+.2f} to {points[2]:+.2f}) |")
    return "\n".join(rows)


def _between(within: Mapping[float, float], quantile: float) -> str:
    """The bucket of a histogram that holds a quantile."""
    low = 0.0
    for limit, count in sorted(within.items()):
        if count >= quantile * within[float("inf")]:
            return f"{1e3 * low:g} to {1e3 * limit:g} ms"
        low = limit
    raise ValueError("the last bucket of a histogram holds all")


def _share(within: Mapping[float, float], limit: float) -> str:
    return f"{100 * within[limit] / within[float('inf')]:.1f}%"


def _yes(reached: bool) -> str:
    return "yes" if reached else "no"
