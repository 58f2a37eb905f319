"""Synthetic runs for tests: seeded, with the shapes and the noise of real ones, written as the recorder writes them.

Nothing here is ever a result: the numbers are drawn, and the fingerprint says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.records import SCHEMA_VERSION, ProcessRecord, Sample

SENTENCES = (
    "The old ferry left the harbour before the sun was up.",
    "She counted seven red boats and one that was green.",
    "Why would a fox bring a shoe to the edge of the wood?",
    "My brother keeps his marbles in a jar that once held honey.",
    "On the third day the rain stopped and the river went down.",
    "Nobody knew who had painted the door of the empty house.",
    "He reads slowly, but he never forgets a word that he has read.",
    "The teacher asked us to write about the longest night of the year.",
    "If you walk along the wall you will come to a small gate.",
    "There were three letters on the table, and none of them was for me.",
    "A blackbird sang on the chimney while we carried the boxes in.",
    "It takes twelve eggs and a good deal of patience.",
    "The captain folded the map and put it back into his coat.",
    "Grandmother says that the bread was better when the mill still turned.",
    "We waited at the crossing until the last wagon had gone by.",
    "The library closes at six, so please bring the books before then.",
    "Some stars that we see tonight went out a thousand years ago.",
    "Please read the next page aloud, and do not hurry.",
    "The dog looked at the ball, then at me, then at the ball again.",
    "In the morning the whole valley lay under a white fog.",
    "He had a voice like gravel and the gentlest hands in the village.",
    "They built the bridge of oak, and it has stood for two hundred years.",
    "What the thunder said, the children repeated for a week.",
    "Put the kettle on, close the window, and tell me everything.",
    "The train was late, the soup was cold, and still we laughed.",
    "A mountain does not move because a goat is in a hurry.",
    "She drew a circle in the sand and stepped inside it.",
    "The clock in the hall was always four minutes ahead of the church.",
    "Nine of the ten apples were sour, but the tenth was perfect.",
    "When the lamp went out we told stories until we fell asleep.",
)
SLIPS = {
    "sour": "sore",
    "gate": "great",
    "mill": "meal",
    "harbour": "harbor",
    "oak": "oke",
    "boats": "boat",
    "fog": "frog",
}


@dataclass(frozen=True)
class FakeCase:
    """One case to invent: how fast, how heavy, how accurate it is."""

    id: str
    title: str
    rtf: float
    compare_to: str | None = None
    rung: bool = True
    axis: str = "acoustic"
    variant: str = "acoustic/ort@fp32"
    stages: dict[str, float] = field(default_factory=lambda: {"ingest": 0.001, "acoustic": 0.3, "decode": 0.68})
    slip: float = 0.02
    slip_seed: int = 1
    rss_mib: float = 400.0
    load_s: float = 1.2
    unavailable: tuple[str, str] | None = None
    error: str | None = None
    options: dict[str, dict[str, Any]] = field(default_factory=dict)


DEFAULT_CASES = (
    FakeCase("shipped", "Model files as shipped", 0.6, variant="acoustic/ort@shipped", rss_mib=512, load_s=0.4),
    FakeCase("folded", "Weights folded to FP32 once", 0.09, "shipped", variant="acoustic/ort@folded", rss_mib=655),
    FakeCase("step-graph", "Decoder step graph of our own", 0.055, "folded", rss_mib=610),
    FakeCase(
        "scalar-kernel",
        "PCM conversion in scalar numba",
        0.0551,
        "step-graph",
        axis="kernel",
        variant="kernel/scalar",
        rss_mib=612,
    ),
    FakeCase("pooled", "Pooled buffers", 0.0548, "scalar-kernel", axis="memory", variant="memory/pooled", rss_mib=598),
    FakeCase(
        "int8",
        "INT8 matrix products",
        0.03,
        "pooled",
        variant="acoustic/ort@int8",
        slip=0.026,
        slip_seed=2,
        rss_mib=310,
    ),
    FakeCase(
        "peer",
        "moonshine-cpp's own engine",
        0.4,
        "pooled",
        rung=False,
        axis="peer",
        variant="peer/moonshine-cpp",
        stages={"engine": 0.998},
        rss_mib=480,
    ),
)
"""The default plan's cases, with numbers of about the size that real ones have."""


@dataclass(frozen=True)
class FakeRun:
    """A run to invent. The noise is lognormal: `process_noise` per process, `sample_noise` per sample."""

    cases: Sequence[FakeCase] = DEFAULT_CASES
    name: str = "20250314-092653-default"
    title: str = "From the model as shipped to INT8, one change at a time"
    repeats: int = 3
    warm_up: int = 1
    utterances: int = 30
    corpora: tuple[str, ...] = ("starter",)
    speakers: int | None = 5
    references: bool = True
    process_noise: float = 0.002
    sample_noise: float = 0.02
    status: str = "complete"
    seed: int = 7


def hundred_cases(utterances: int, repeats: int) -> FakeRun:
    """A large run: a ladder of twenty rungs and eighty cases beside it, on two corpora."""
    cases = tuple(
        FakeCase(f"c{i}", f"Case {i} of a hundred", 0.6 * 0.97**i, f"c{i - 1}" if i else None, rung=i < 20)
        for i in range(100)
    )
    return FakeRun(cases, utterances=utterances, repeats=repeats, corpora=("starter", "learners"))


def write_run(root: Path, fake: FakeRun | None = None) -> Path:
    """Write a run folder under `root` and return it."""
    fake = fake or FakeRun()
    folder = root / fake.name
    folder.mkdir(parents=True)
    rng = np.random.default_rng(fake.seed)
    utterances = _utterances(fake, rng)
    (folder / "manifest.json").write_text(json.dumps(_manifest(fake, utterances), indent=1), encoding="utf-8")
    samples: list[dict[str, Any]] = []
    processes: list[dict[str, Any]] = []
    # A clip has a difficulty of its own that all cases share, and a little that only one case feels.
    shared = np.exp(rng.normal(0, 0.08, len(utterances)))
    own = {case.id: np.exp(rng.normal(0, 0.01, len(utterances))) for case in fake.cases}
    for repeat in range(fake.repeats):
        for case in fake.cases:
            if case.unavailable:
                continue
            processes.append(_process(case, repeat, rng).to_json())
            if case.error:
                continue
            speed = case.rtf * float(np.exp(rng.normal(0, fake.process_noise)))
            order = [*(0 for _ in range(fake.warm_up)), *range(len(utterances))]
            for place, index in enumerate(order):
                steady = place >= fake.warm_up
                factor = shared[index] * own[case.id][index] * float(np.exp(rng.normal(0, fake.sample_noise)))
                seconds = speed * factor * utterances[index]["duration_s"] * (1.0 if steady else 1.6)
                samples.append(_sample(case, repeat, utterances[index], place, steady, seconds).to_json())
    _write_lines(folder / "samples.jsonl", samples)
    _write_lines(folder / "processes.jsonl", processes)
    return folder


def _utterances(fake: FakeRun, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for index in range(fake.utterances):
        text = SENTENCES[index % len(SENTENCES)]
        rows.append(
            {
                "id": f"clip-{index:03d}",
                "corpus": fake.corpora[index % len(fake.corpora)],
                "text": text if fake.references else None,
                "speaker": None if fake.speakers is None else f"speaker-{index % fake.speakers}",
                "duration_s": round(len(text) / 14 * float(rng.uniform(0.8, 1.6)), 2),
                "sha256": hashlib.sha256(f"{index} {text}".encode()).hexdigest(),
            }
        )
    return rows


def _manifest(fake: FakeRun, utterances: list[dict[str, Any]]) -> dict[str, Any]:
    base = {"acoustic": "acoustic/ort@shipped", "decoder": "decoder/aed-greedy", "kernel": "kernel/numpy"}
    entries = []
    for case in fake.cases:
        variants = {"peer": case.variant} if case.axis == "peer" else {**base, case.axis: case.variant}
        pipeline = {"model": "moonshine-aed", "threads": 1, "variants": variants, "options": case.options}
        entries.append(
            {
                "case": {
                    "id": case.id,
                    "title": case.title,
                    "pipeline": pipeline,
                    "compare_to": case.compare_to,
                    "rung": case.rung,
                },
                "unavailable_reason": case.unavailable[0] if case.unavailable else None,
                "unavailable_remedy": case.unavailable[1] if case.unavailable else None,
            }
        )
    return {
        "schema_version": SCHEMA_VERSION,
        "run": fake.name,
        "status": fake.status,
        "created_utc": "2025-03-14T09:26:53Z",
        "finished_utc": "2025-03-14T09:33:11Z" if fake.status == "complete" else None,
        "plan_name": "default",
        "plan_title": fake.title,
        "plan_description": "Moonshine base-en transcribes whole utterances on one thread, one change at a time.",
        "plan_toml": 'name = "default"\n',
        "corpus": "starter",
        "repeats": fake.repeats,
        "warm_up": fake.warm_up,
        "cases": entries,
        "utterances": utterances,
        "fingerprint": {
            "synthetic": True,
            "code": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
            "cpu": {"model": "Synthetic CPU @ 2.00 GHz", "cores": 2, "features": ["avx2", "avx512f", "fma"]},
            "libraries": {"numpy": "2.4.6", "onnxruntime": "1.25.0"},
            "threads": {"OMP_NUM_THREADS": "1"},
        },
    }


def _process(case: FakeCase, repeat: int, rng: np.random.Generator) -> ProcessRecord:
    mib = 1 << 20
    jitter = float(np.exp(rng.normal(0, 0.004)))
    return ProcessRecord(
        case=case.id,
        repeat=repeat,
        status="failed" if case.error else "ok",
        error=case.error,
        import_ns=int(0.45e9 * jitter),
        load_ns=int(case.load_s * 1e9 * jitter),
        warm_up_ns=int(0.12e9 * jitter),
        baseline_rss_bytes=92 * mib,
        peak_rss_bytes=int(case.rss_mib * jitter * mib),
        cpu_s=30.0,
        wall_s=31.0,
        threads=3,
        end_rss_bytes=int(case.rss_mib * 0.96 * jitter * mib),
        end_anonymous_bytes=int(case.rss_mib * 0.8 * jitter * mib),
        live_bytes=int(case.rss_mib * 0.7 * jitter * mib),
        allocator="glibc 2.36",
    )


def _sample(case: FakeCase, repeat: int, utterance: dict[str, Any], place: int, steady: bool, seconds: float) -> Sample:
    text = utterance["text"] or SENTENCES[int(utterance["id"][-3:]) % len(SENTENCES)]
    latency_ns = max(1, int(seconds * 1e9))
    return Sample(
        case=case.id,
        repeat=repeat,
        utterance=utterance["id"],
        phase="steady" if steady else "warm-up",
        started_ns=10_000_000_000 * (place + 1),
        latency_ns=latency_ns,
        cpu_ns=int(latency_ns * 0.99),
        stages_ns={stage: int(latency_ns * share) for stage, share in case.stages.items()},
        steps=0 if "engine" in case.stages else len(text) // 4,
        text=_misheard(text, case, utterance["id"]),
        rss_bytes=int(case.rss_mib * (0.96 - 0.1 * 0.8**place) * (1 << 20)),
    )


def _misheard(text: str, case: FakeCase, utterance: str) -> str:
    """The sentence with some words wrong: the same ones in every repeat, and for cases of one `slip_seed`."""
    digest = hashlib.sha256(f"{case.slip_seed} {utterance}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    words = []
    for word in text.split():
        bare = word.strip(".,?").lower()
        if bare in SLIPS and rng.random() < case.slip * 15:
            words.append(word.lower().replace(bare, SLIPS[bare]))
        elif rng.random() < case.slip / 2:
            words.append("the" if rng.random() < 0.5 else f"{word} and")
        else:
            words.append(word)
    return " ".join(words)


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
