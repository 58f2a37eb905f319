"""What tests of the runner share: the faulty engines as an installed package, a corpus, plans, and waiting."""

from __future__ import annotations

import inspect
import os
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from harness.corpus import Corpus, load_corpus
from harness.plan import Plan, parse_plan
from harness.progress import Reporter
from harness.records import ProcessRecord, Sample
from harness.runner import RunOutcome, run_plan
from harness.store import Run, open_run
from pipelines import registry

ENGINES = Path(__file__).parent
CLIPS = 4


@pytest.fixture
def faulty_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install the faulty engines for this process and its children; gives the folder that is installed."""
    monkeypatch.syspath_prepend(ENGINES)
    from tests.fakes import faulty_engines

    engines = [
        engine
        for engine in vars(faulty_engines).values()
        if inspect.isclass(engine) and issubclass(engine, faulty_engines.Engine) and engine is not faulty_engines.Engine
    ]
    packages = tmp_path / "packages"
    info = packages / "faulty_engines-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty-engines\nVersion: 1.0\n", encoding="utf-8")
    lines = [f"{engine.id} = faulty_engines:{engine.__name__}" for engine in engines]
    (info / "entry_points.txt").write_text("\n".join([f"[{registry.GROUP}]", *lines, ""]), encoding="utf-8")
    monkeypatch.syspath_prepend(packages)
    outer = os.environ.get("PYTHONPATH")
    path = [str(packages), str(ENGINES), *([outer] if outer else [])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    registry._entry_points.cache_clear()
    yield packages
    monkeypatch.undo()
    registry._entry_points.cache_clear()


@pytest.fixture
def corpus_folder(tmp_path: Path) -> Path:
    """Four recordings of noise, 0.1 s to 0.4 s, with transcripts."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    noise = np.random.default_rng(7)
    for number in range(1, CLIPS + 1):
        samples = noise.integers(-8000, 8000, size=1600 * number, dtype=np.int16)
        with wave.open(str(folder / f"clip{number}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes(samples.tobytes())
        (folder / f"clip{number}.txt").write_text(f"this is clip {number}\n", encoding="utf-8")
    return folder


@dataclass
class Notes:
    """A reporter that remembers."""

    messages: list[str] = field(default_factory=list)
    planned: list[tuple[str, int]] = field(default_factory=list)
    order: list[tuple[str, int]] = field(default_factory=list)
    not_tried: list[tuple[str, int]] = field(default_factory=list)
    records: list[ProcessRecord] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return

    def started(self, run: str, processes: Sequence[tuple[str, int]], calls: int) -> None:
        self.planned = list(processes)

    def process_started(self, case: str, repeat: int) -> None:
        self.order.append((case, repeat))

    def sample(self, sample: Sample) -> None:
        self.samples.append(sample)

    def process_done(self, record: ProcessRecord) -> None:
        self.records.append(record)

    def dropped(self, case: str, repeat: int) -> None:
        self.not_tried.append((case, repeat))

    def message(self, text: str) -> None:
        self.messages.append(text)


@dataclass
class Bench:
    """A place to run plans in."""

    folder: Path
    corpus_folder: Path
    notes: Notes = field(default_factory=Notes)

    @property
    def runs_dir(self) -> Path:
        return self.folder / "runs"

    @property
    def models_dir(self) -> Path:
        return self.folder / "models"

    @property
    def corpus(self) -> Corpus:
        return load_corpus(str(self.corpus_folder))

    def run(self, plan: Plan, resume: Path | None = None, reporter: Reporter | None = None) -> RunOutcome:
        return run_plan(
            plan,
            corpus=self.corpus,
            models_dir=self.models_dir,
            runs_dir=self.runs_dir,
            reporter=self.notes if reporter is None else reporter,
            resume=resume,
        )

    def stored(self) -> Run:
        """The only run there is."""
        (path,) = self.runs_dir.iterdir()
        return open_run(path)


@pytest.fixture
def bench(tmp_path: Path, corpus_folder: Path, faulty_engines: Path) -> Bench:
    return Bench(tmp_path, corpus_folder)


def plan_toml(*engines: str, repeats: int = 1, settings: str = "", options: str = "") -> str:
    """A plan with one case for each engine; `options` is the inside of a TOML table for all of them."""
    head = f'name = "faults"\ntitle = "Faults"\ncorpus = "noise"\nrepeats = {repeats}\nwarm_up = 1\n{settings}\n'
    cases = (
        f'[[case]]\nid = "{engine}"\ntitle = "{engine}"\nbase = "none"\nvariants = {{ peer = "{engine}" }}\n'
        f"options = {{ peer = {{ {options} }} }}\n"
        for engine in engines
    )
    return head + "".join(cases)


def plan_of(*engines: str, repeats: int = 1, settings: str = "", options: str = "") -> Plan:
    text = plan_toml(*engines, repeats=repeats, settings=settings, options=options)
    return parse_plan(text, Path("plan.toml"))


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s} s for {what}")
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether a process is there and more than a corpse that nobody has collected."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
