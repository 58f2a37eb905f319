"""The temporary files that a run hands to its worker processes: the audio of all utterances, and the job."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.records import Utterance
from harness.worker import Job
from pipelines.errors import AmiraError

if TYPE_CHECKING:
    from harness.corpus import Clip


@dataclass(frozen=True, slots=True)
class Scratch:
    """The files of a run in a temporary folder.

    Attributes:
        audio: The PCM16 bytes of all utterances, one behind the other: decoded once, the same for every case.
        utterances: What the manifest says about them, in the order of the file.
        sizes: Id and number of bytes of each.
    """

    audio: Path
    utterances: tuple[Utterance, ...]
    sizes: tuple[tuple[str, int], ...]

    def job_file(self, job: Job, place: int = 0) -> Path:
        """Write a job for a worker to read; jobs that are done at the same time need different places.

        Raises:
            AmiraError: The disk refuses.
        """
        path = self.audio.with_name(f"job-{place}.json")
        with _clear_errors(path.parent):
            path.write_text(job.to_json(), encoding="utf-8")
        return path


def write_scratch(clips: Sequence[Clip], folder: Path) -> Scratch:
    """Decode all clips into one file.

    Raises:
        AmiraError: A clip cannot be read, or the disk refuses.
    """
    audio = folder / "audio.pcm"
    utterances, sizes = [], []
    with _clear_errors(folder), audio.open("wb") as file:
        for clip in clips:
            pcm = clip.pcm16()
            file.write(pcm)
            sizes.append((clip.id, len(pcm)))
            utterances.append(
                Utterance(
                    id=clip.id,
                    corpus=clip.corpus,
                    text=clip.text,
                    speaker=clip.speaker,
                    duration_s=clip.duration_s,
                    sha256=hashlib.sha256(pcm).hexdigest(),
                    age=clip.age,
                )
            )
    return Scratch(audio, tuple(utterances), tuple(sizes))


@contextmanager
def _clear_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        free_mib = shutil.disk_usage(folder).free / 2**20
        raise AmiraError(
            f"cannot write the run's temporary files to '{folder}': {reason} ({free_mib:.1f} MiB free there). "
            "Free some space, or set TMPDIR to a folder that has it."
        ) from error
