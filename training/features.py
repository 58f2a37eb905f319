"""What the package's encoder makes of speech, computed once and kept in a file: what a head is trained on."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from harness.output import say
from pipelines.contracts import SAMPLE_RATE
from pipelines.models.moonshine import WIDTH
from pipelines.models.source import ENCODER
from pipelines.models.token_head import READS as LAYERS
from training.augment import real
from training.config import Model
from training.data import Speech, Utterance, batches
from training.evaluate import padded
from training.exported import load_known
from training.network import Network, stem_frames
from training.pretrained import encoder_state

EXTRACT_S = 60


class Features:
    """What the encoder makes of every utterance, kept in a file: float16 (frames, layers * 416), each layer normalised.

    Args:
        speech: What it hears.
        utterances: Of it.
        cache: Where the file is, or will be.
    """

    def __init__(self, speech: Speech, utterances: Sequence[Utterance], cache: Path) -> None:
        self.frames = [int(stem_frames(torch.tensor(utterance.samples))) for utterance in utterances]
        self._starts = dict(zip((each.id for each in utterances), np.cumsum([0, *self.frames]).tolist(), strict=False))
        self._counts = dict(zip((each.id for each in utterances), self.frames, strict=True))
        said = repr([(each.id, each.samples) for each in utterances]) + repr(LAYERS) + ENCODER.sha256
        path = cache / f"{hashlib.sha256(said.encode()).hexdigest()[:16]}.features"
        shape = sum(self.frames), len(LAYERS) * WIDTH
        if not path.is_file():
            part = path.with_suffix(f"{path.suffix}.{os.getpid()}")
            self._extract(speech, utterances, np.memmap(part, np.float16, "w+", shape=shape))
            part.replace(path)
        self._values = np.memmap(path, np.float16, "r", shape=shape)

    def of(self, utterance: Utterance) -> npt.NDArray[np.float16]:
        """Those of one utterance."""
        start = self._starts[utterance.id]
        return self._values[start : start + self._counts[utterance.id]]

    def _extract(self, speech: Speech, utterances: Sequence[Utterance], into: npt.NDArray[np.float16]) -> None:
        network = Network(Model(layers=max(LAYERS)))
        load_known(network, encoder_state())
        network.eval()
        done, began = 0.0, time.monotonic()
        with torch.inference_mode():
            for number, group in enumerate(batches(utterances, EXTRACT_S * SAMPLE_RATE, None)):
                samples, lengths = padded([speech.audio(each).astype(np.float32) / 32768 for each in group])
                x, frames = network.stem(samples, lengths)
                _, kept = network.layer_range(x, frames, None, 0, max(LAYERS), LAYERS)
                values = torch.cat([functional.layer_norm(kept[each], (WIDTH,)) for each in LAYERS], -1)
                for each, row, count in zip(group, values, frames.tolist(), strict=True):
                    into[self._starts[each.id] : self._starts[each.id] + count] = row[:count].half().numpy()
                done += float(lengths.sum()) / SAMPLE_RATE / 3600
                if number % 50 == 0:
                    say(f"encoder: {done:.2f} hours in {time.monotonic() - began:.0f} s")


class Known(Protocol):
    """Knows the features of utterances."""

    def of(self, utterance: Utterance) -> npt.NDArray[np.float16]:
        """Those of one utterance."""
        ...


class Together:
    """The features of several corpora, no two of which have a name and an id in common."""

    def __init__(self, parts: Sequence[tuple[Speech, Features]]) -> None:
        self._of = {(each.corpus, each.id): features for speech, features in parts for each in speech.utterances}

    def of(self, utterance: Utterance) -> npt.NDArray[np.float16]:
        """Those of one utterance."""
        return self._of[utterance.corpus, utterance.id].of(utterance)


def batch_of(features: Known, group: Sequence[Utterance]) -> tuple[Tensor, Tensor, Tensor]:
    """Features (batch, frames, layers * 416) as float32, their frames, and which are real."""
    found = [features.of(utterance) for utterance in group]
    frames = torch.tensor([len(each) for each in found])
    x = torch.zeros(len(found), int(frames.max()), len(LAYERS) * WIDTH)
    for row, each in zip(x, found, strict=True):
        row[: len(each)] = torch.from_numpy(each.astype(np.float32))
    return x, frames, real(frames, x).float()[..., None]
