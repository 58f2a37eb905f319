"""`python -m training.spoken`: a corpus of synthetic speech, which shows a model words that no recording here has.

Sentences come by chance out of the English trigram of CMU Sphinx (`pipelines.graphs.language`), so that neighbouring
words go together and nothing else does; a share of the words is drawn by the square root of how often they occur, for
the rare ones' sake. Flite (Debian) reads them aloud, its voices quicker and slower, higher and lower.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import soundfile
import soxr
import typer

from harness.corpus.load import MANIFEST
from harness.output import say
from pipelines import debian, paths
from pipelines.contracts import SAMPLE_RATE
from pipelines.errors import AmiraError
from pipelines.graphs import arpa, language

PACKAGES = ("libflite1", "flite")
VOICES = ("awb", "rms", "slt", "kal16")
"""A Scottish and an American man, an American woman, and another American man in diphones."""
STRETCH, RESAMPLED = (0.85, 1.2), (0.9, 1.15)
"""Limits of how much slower a voice speaks, and by how much it is raised (with its tempo)."""
LONGEST = 24
"""Words of a sentence."""
RARE = 0.25
"""Share of words that are drawn by the square root of their frequency."""
PRUNE = 3e-8
"""Of the trigram, see `language.english`."""
AT_ONCE = 64
"""Sentences between two reports."""
TIMEOUT_S = 60
"""For one sentence."""
_WORD = re.compile(r"[a-z]+('[a-z]+)?")


@dataclass(frozen=True, slots=True)
class _Next:
    """What may follow, and the sums of the probabilities up to each."""

    words: list[str]
    sums: list[float]

    def draw(self, chance: float) -> str | None:
        """The word at that place of the distribution, `None` beyond its end."""
        index = int(np.searchsorted(self.sums, chance, side="right"))
        return self.words[index] if index < len(self.words) else None


class Sentences:
    """Random sentences of a trigram.

    Args:
        model: An ARPA file.
    """

    def __init__(self, model: Path) -> None:
        found: dict[tuple[str, ...], tuple[list[str], list[float]]] = {}
        for entry in arpa.read(model):
            *before, word = entry.words
            if word == arpa.END or _WORD.fullmatch(word):
                words, shares = found.setdefault(tuple(before), ([], []))
                words.append(word)
                shares.append(10**entry.log10)
        self._after = {before: _Next(words, np.cumsum(shares).tolist()) for before, (words, shares) in found.items()}
        words, shares = found[()]
        known = [(word, share) for word, share in zip(words, shares, strict=True) if word != arpa.END]
        roots = np.sqrt([share for _, share in known])
        self._rare = _Next([word for word, _ in known], (np.cumsum(roots) / roots.sum()).tolist())

    def one(self, rng: np.random.Generator) -> str:
        """A sentence of one to `LONGEST` words."""
        said: list[str] = []
        while len(said) < LONGEST:
            word = self._rare.draw(rng.random()) if rng.random() < RARE else self._likely(said, rng)
            if word == arpa.END and said:
                break
            if word is not None and word != arpa.END:
                said.append(word)
        return " ".join(said)

    def _likely(self, said: list[str], rng: np.random.Generator) -> str | None:
        """The next word: of the longest history that has one at the place that chance names."""
        before = (arpa.BEGIN, *said)[-2:]
        for start in range(len(before) + 1):
            following = self._after.get(tuple(before[start:]))
            word = following.draw(rng.random()) if following else None
            if word is not None:
                return word
        return None


class Flite:
    """Flite in a folder of its own, fetched from Debian where it is not there yet.

    Args:
        folder: For the program and its voices.

    Raises:
        AmiraError: It cannot be had here.
    """

    def __init__(self, folder: Path) -> None:
        self._program = folder / "usr/bin/flite"
        if not self._program.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory() as scratch:
                for package in PACKAGES:  # the program comes last, so that an unfinished folder is not taken for whole
                    debian.unpack(debian.download(package, Path(scratch), say), folder)
        libraries = next(iter(sorted((folder / "usr/lib").glob("*-linux-gnu*"))), None)
        self._environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}

    def say(self, text: str, voice: str, stretch: float, target: Path) -> None:
        """Speak into a WAV file.

        Raises:
            AmiraError: Flite said no.
        """
        command = [str(self._program), "--setf", f"duration_stretch={stretch:.3f}", "-voice", voice]
        command += ["-t", text, "-o", str(target)]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
        if done.returncode or not target.is_file():
            raise AmiraError(f"flite could not say '{text}' with voice {voice}: {debian.last_words(done)}")


def rows(sentences: Sentences, seed: int) -> Iterator[dict[str, str | float]]:
    """What to say and how, without end: row `n` depends on the seed and `n` alone."""
    number = 0
    while True:
        rng = np.random.default_rng((seed, number))
        yield {
            "id": f"{number:06}",
            "text": sentences.one(rng),
            "voice": VOICES[int(rng.integers(len(VOICES)))],
            "stretch": round(float(rng.uniform(*STRETCH)), 3),
            "raised": round(float(rng.uniform(*RESAMPLED)), 3),
        }
        number += 1


def write(flite: Flite, row: dict[str, str | float], folder: Path) -> dict[str, str | float]:
    """Speak a row into `folder/ID.flac`; its line of the manifest."""
    target = folder / f"{row['id']}.flac"
    with TemporaryDirectory() as scratch:
        spoken = Path(scratch) / "spoken.wav"
        flite.say(str(row["text"]), str(row["voice"]), float(row["stretch"]), spoken)
        samples, rate = soundfile.read(spoken, dtype="float32")
    samples = soxr.resample(samples, rate * float(row["raised"]), SAMPLE_RATE)
    peak = float(np.abs(samples).max())
    if not peak:
        raise AmiraError(f"flite says nothing of '{row['text']}'")
    soundfile.write(target, samples * (0.5 / peak), SAMPLE_RATE, subtype="PCM_16")
    return {
        "id": str(row["id"]),
        "audio": target.name,
        "text": str(row["text"]),
        "speaker": str(row["voice"]),
        "duration_s": round(len(samples) / SAMPLE_RATE, 3),
    }


def build(sentences: Sentences, flite: Flite, target: Path, hours: float, seed: int, workers: int) -> None:
    """Write a corpus: `manifest.jsonl` with its clips beside it. The folder appears when it is whole."""
    part = target.with_name(f".{target.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    said, began, wanted = 0.0, time.monotonic(), rows(sentences, seed)
    with ThreadPoolExecutor(workers) as pool, (part / MANIFEST).open("w", encoding="utf-8") as manifest:
        while said < hours * 3600:
            for line in pool.map(lambda row: write(flite, row, part), [next(wanted) for _ in range(AT_ONCE)]):
                if said >= hours * 3600:
                    break
                manifest.write(json.dumps(line | {"corpus": target.name}) + "\n")
                said += float(line["duration_s"])
            say(f"{said / 3600:.2f} of {hours:g} hours in {time.monotonic() - began:.0f} s")
    part.replace(target)


def main(
    hours: Annotated[float, typer.Option(min=0.001, help="How much speech to make.")] = 12.0,
    name: Annotated[str, typer.Option(help="Of the corpus; `amira corpus show` takes it afterwards.")] = "spoken",
    seed: Annotated[int, typer.Option(help="Of the sentences and of how they are said.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Sentences at once.")] = 2,
) -> None:
    """Make a corpus of synthetic speech (fetches Flite, 13 MB, and the English trigram)."""
    target = paths.corpora_dir() / name
    if target.exists():
        raise typer.BadParameter(f"there is a corpus '{name}' already: remove {target}, or give another name.")
    model = language.english(paths.languages_dir(), say, PRUNE)
    flite = Flite(paths.libraries_dir() / "flite")
    build(Sentences(model), flite, target, hours, seed, workers)


if __name__ == "__main__":
    typer.run(main)
