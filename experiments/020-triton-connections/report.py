"""`result.md` from the stored samples."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
STAGES = ("lease", "serialise", "send", "server in", "queue", "compute", "server out", "receive", "take")
"""Of a call, in order."""
OURS = "as we have it"
WHOSE = {
    "ours": ("lease", "serialise", "take"),
    "gRPC or HTTP": ("send", "receive"),
    "Triton": ("server in", "queue", "compute", "server out"),
}
"""Whose work each stage is: a protocol has what lies between our marks and Triton's, waiting included."""
MODEL = {
    "model": "straight after each other",
    "model, paced": "each after a pause",
    "model, one core": "all on one core",
    "model, one core, paced": "all on one core, each after a pause",
}
"""How the streaming model is called; with `HUGE` behind it, in process on huge pages as Triton's runner is."""
HUGE = ", huge"
ONE_CORE = ", one core"
LAYERS = (
    ("cygrpc", "gRPC's core"),
    ("grpc/", "gRPC's Python"),
    ("protobuf", "protobuf"),
    ("pipelines/", "ours"),
    ("measure.py", "the measurement"),
)


def blocks(frame: pd.DataFrame, payload: str) -> pd.DataFrame:
    """The median of every block, by way, in microseconds."""
    return frame[frame.payload == payload].groupby(["block", "kind"]).latency_ns.median().unstack() / 1e3


def middle(values: np.ndarray, digits: int = 0) -> str:
    """The median with its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    draws = np.median(rng.choice(values, (4_000, len(values))), axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return f"{np.median(values):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def interval(logs: np.ndarray) -> str:
    """A ratio with its 95 % interval from log-ratios of rounds."""
    from scipy import stats

    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    low, mean, high = np.exp([logs.mean() - half, logs.mean(), logs.mean() + half])
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def row(*cells: object) -> str:
    """A line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def head(*cells: object) -> list[str]:
    """The first lines of a table."""
    return [row(*cells), "|---" * len(cells) + "|"]


def document() -> str:
    """`result.md`, from the stored samples."""
    frames = {name: pd.read_parquet(HERE / f"{name}.parquet") for name in ("samples", "rates", "paired", "pool")}
    stages, cpu = (pd.read_parquet(HERE / f"{name}.parquet") for name in ("stages", "cpu"))
    lines = [
        "# Connections to a real Triton",
        "",
        "Made by `measure.py --report` from the samples beside it.",
        *_loaded(frames["samples"], frames["rates"]),
        *_answers(frames["paired"], frames["pool"], frames["rates"]),
        *_hops(frames["paired"]),
        *_ways(frames["paired"]),
        *_settings(),
        *_stages(stages),
        *_cpu(cpu),
    ]
    if (HERE / "profile.folded").is_file():
        lines += _profile((HERE / "profile.folded").read_text("utf-8"))
    return "\n".join(lines) + "\n"


def _loaded(samples: pd.DataFrame, rates: pd.DataFrame) -> list[str]:
    callers = sorted(samples.callers.unique())
    lines = [
        "",
        "Latency in ms of a call with 160 ms of audio, by callers: median / p90 / p99, and calls a second.",
        "",
    ]
    lines += head("connection", *(f"{count} callers" for count in callers))
    for kind in samples.kind.unique()[np.argsort(samples.kind.unique())]:
        cells = []
        for count in callers:
            part = samples[(samples.kind == kind) & (samples.callers == count)]
            rate = rates[(rates.kind == kind) & (rates.callers == count)].calls_per_s.median()
            times = np.percentile(part.latency_ns, [50, 90, 99]) / 1e6
            cells.append(" / ".join(f"{x:.2f}" for x in times) + f", {rate:.0f}/s")
        lines.append(row(kind, *cells))
    return lines


def _answers(paired: pd.DataFrame, pool: pd.DataFrame, rates: pd.DataFrame) -> list[str]:
    lines = ["", "One caller, all ways in turn, block by block; at 64 callers round by round:", ""]
    lines += head("question", "answer, 95 % interval")
    for where in ("", ONE_CORE):
        for payload in ("small", "chunk"):
            us, what = blocks(paired, payload + where), payload + where.replace(",", ", all on")
            lines.append(
                row(f"pooled against fresh, {what}, times as fast", middle((us.fresh / us.pooled).to_numpy(), 2))
            )
    us = blocks(paired, "small")
    whole = (us["tritonclient, fresh"] / us.pooled).to_numpy()
    lines.append(row("pooled against tritonclient's client opened afresh, small, times as fast", middle(whole, 2)))
    lines.append(row("pool over a raw reused client, small, us", middle((us.pooled - us.raw).to_numpy(), 1)))
    lines.append(row("pool alone, a lease and its return, us", middle(pool.lease_ns.to_numpy() / 1e3, 2)))
    for payload, what in (
        ("chunk", "preprocessor, 160 ms"),
        (f"chunk{ONE_CORE}", "preprocessor, 160 ms, all on one core"),
        ("model", "streaming model, its chunk of 168 ms"),
        (f"model{ONE_CORE}", "streaming model, its chunk of 168 ms, all on one core"),
    ):
        us = blocks(paired, payload)
        for kind in (kind for kind in ("stream", "shm", "http", "pooled") if kind in us):
            hop = (us[kind] - us["in process"]).to_numpy()
            lines.append(row(f"whole hop over in-process, {kind}, {what}, us", middle(hop)))
    wide = rates[rates.callers == 64].pivot_table(index="round", columns="kind", values="calls_per_s")
    rate = interval(np.log(wide.aio / wide.pooled).to_numpy())
    lines.append(row("aio's rate against pooled threads' at 64 callers", rate))
    return lines


def _hops(paired: pd.DataFrame) -> list[str]:
    lines = ["", "The streaming model, a chunk of 168 ms: in process, and the whole hop over that, in us:", ""]
    kinds = ("stream", "shm", "pooled", "http")
    lines += head("calls", "pages in process", "in process", *(f"hop, {kind}" for kind in kinds))
    for pages, ending in (("4 KiB", ""), ("2 MiB", HUGE)):
        for payload, what in MODEL.items():
            us = blocks(paired, payload + ending)
            if us.empty:
                continue
            alone = us["in process"].to_numpy()
            cells = [middle(us[kind].to_numpy() - alone) if kind in us else "" for kind in kinds]
            lines.append(row(what, pages, middle(alone), *cells))
    return lines


def _ways(paired: pd.DataFrame) -> list[str]:
    lines = ["", "The same in us, the median over blocks with its interval (cold: after 48 MB were read):", ""]
    names = ("small", "chunk", "chunk, cold", f"small{ONE_CORE}", f"chunk{ONE_CORE}", "model")
    payloads = [name for name in names if name in set(paired.payload)]
    tables = {payload: blocks(paired, payload) for payload in payloads}
    lines += head("way", *payloads)
    for name in sorted(tables["small"], key=lambda name: tables["small"][name].median()):
        lines.append(row(name, *(middle(us[name].to_numpy()) if name in us else "" for us in tables.values())))
    return lines


def _settings() -> list[str]:
    lines = ["", "Settings of gRPC, a small tensor, times the latency of `as we have it`:", ""]
    lines += head("setting", "times as long, 95 % interval")
    channels = pd.read_parquet(HERE / "channels.parquet")
    us = channels.groupby(["block", "kind"], sort=False).latency_ns.median().unstack()
    for name in us.columns.drop(OURS):
        lines.append(row(name, middle((us[name] / us[OURS]).to_numpy(), 3)))
    fresh = pd.read_parquet(HERE / "processes.parquet").pivot_table(
        index="round", columns="setting", values="median_ns"
    )
    for name in fresh.columns.drop(OURS):
        lines.append(row(f"{name}, in fresh processes", interval(np.log(fresh[name] / fresh[OURS]).to_numpy())))
    return lines


def _stages(stages: pd.DataFrame) -> list[str]:
    lines = [
        "",
        "Where one caller's call of 160 ms goes, medians in us (client marks joined with Triton's timestamps):",
        "",
    ]
    lines += head("connection", *STAGES)
    for kind, part in stages.groupby("kind"):
        lines.append(row(kind, *(f"{part[name].median() / 1e3:.0f}" for name in STAGES)))
    lines += ["", "Whose that is, medians of the sums in us:", "", *head("connection", *WHOSE, "all")]
    for kind, part in stages.groupby("kind"):
        sums = [part[list(names)].sum(axis=1).median() / 1e3 for names in WHOSE.values()]
        lines.append(row(kind, *(f"{x:.0f}" for x in sums), f"{part[list(STAGES)].sum(axis=1).median() / 1e3:.0f}"))
    return lines


def _cpu(cpu: pd.DataFrame) -> list[str]:
    lines = ["", "Processor time of a call in us and, in brackets, how often a thread got a core for it:", ""]
    processes = list(cpu.process.unique())
    lines += head("call", *processes, "wall")
    for kind in cpu.kind.unique():
        part = cpu[cpu.kind == kind].set_index("process")
        cells = [f"{part.cpu_us[name]:.0f} ({part.turns[name]:.1f})" for name in processes]
        lines.append(row(kind, *cells, f"{part.wall_us.iloc[0]:.0f}"))
    return lines


def _profile(folded: str) -> list[str]:
    """Samples by the innermost layer that a stack's frames name."""
    counted: Counter[str] = Counter()
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = reversed(stack.split(";"))
        layer = next((name for frame in frames for sign, name in LAYERS if sign in frame), "interpreter and libraries")
        counted[layer] += int(count)
    total = sum(counted.values())
    lines = ["", "Processor time of the client by layer, py-spy's samples ([profile.svg](profile.svg)):", ""]
    return lines + head("layer", "part") + [row(name, f"{n / total:.0%}") for name, n in counted.most_common()]
