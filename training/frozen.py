"""What the frozen layers of a network make of its training speech, computed once: a step then costs what learns."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.output import say
from pipelines.contracts import SAMPLE_RATE
from pipelines.models.moonshine import WIDTH
from training.augment import change_speed, disturb
from training.config import TrainingConfig
from training.data import Speech, Utterance, batches
from training.evaluate import padded
from training.network import Network

EXTRACT_S = 60
NO_MASKS = {"time_masks": 0.0, "channel_masks": 0.0}
"""What of an augmentation the layers above hear, and not these."""


class Frozen:
    """The output of the last frozen layer for every utterance, in one file a copy: float16 (frames, 416).

    The first copy hears the clips as they are and in chunks of the first length, where the network hears chunks; each
    copy after it hears them disturbed, in chunks of the next length.

    Args:
        network: Whose frozen part it is.
        config: How many copies, and how they are disturbed.
        speech: What it hears.
        cache: Where the files are, or will be.
    """

    def __init__(self, network: Network, config: TrainingConfig, speech: Speech, cache: Path) -> None:
        self._config, self._speech = config, speech
        self._index = {(each.corpus, each.id): index for index, each in enumerate(speech.utterances)}
        self._files = [self._file(network, copy, cache) for copy in range(config.copies)]

    def chunk(self, copy: int) -> int | None:
        """Frames of a chunk in a copy; `None` for a network of whole clips."""
        model = self._config.model
        return model.chunk_frames[copy % len(model.chunk_frames)] if model.streaming else None

    def batch(self, group: Sequence[Utterance], copy: int) -> tuple[Tensor, Tensor]:
        """A copy's outputs, float32 (batch, frames, 416), zeros behind the end of a clip; and their frames."""
        values, starts = self._files[copy]
        places = [self._index[each.corpus, each.id] for each in group]
        frames = torch.tensor([int(starts[place + 1] - starts[place]) for place in places])
        x = torch.zeros(len(group), int(frames.max()), WIDTH)
        for row, place in zip(x, places, strict=True):
            found = values[starts[place] : starts[place + 1]]
            row[: len(found)] = torch.from_numpy(found.astype(np.float32))
        return x, frames

    def _file(self, network: Network, copy: int, cache: Path) -> tuple[np.ndarray, np.ndarray]:
        """The values of a copy, and where those of each utterance start."""
        config, spoken = self._config, self._speech.utterances
        digest = hashlib.sha256(repr([(each.corpus, each.id, each.samples) for each in spoken]).encode())
        heard = config.augmentation.model_copy(update=NO_MASKS)
        below = config.model.model_copy(update={"layers": config.model.frozen_layers})
        digest.update(repr((below, heard, config.seed, copy)).encode())
        frozen = ("conv", "groupnorm", "stem", *(f"layers.{index}." for index in range(config.model.frozen_layers)))
        for name, value in network.state_dict().items():
            if name.startswith(frozen):
                digest.update(value.cpu().numpy().tobytes())
        path = cache / f"{digest.hexdigest()[:16]}.frozen"
        factors = np.ones(len(spoken))
        if copy:
            rng, limits = np.random.default_rng((config.seed, 3, copy)), config.augmentation.speed
            changed = rng.random(len(spoken)) < config.augmentation.speed_chance
            factors[changed] = rng.uniform(*limits, len(spoken))[changed]
        lengths = (torch.tensor([each.samples for each in spoken]) / torch.from_numpy(factors)).long()
        starts = np.concatenate(([0], np.cumsum(network.frames(lengths).numpy())))
        shape = int(starts[-1]), WIDTH
        if not path.is_file():
            part = path.with_suffix(f"{path.suffix}.{os.getpid()}")
            cache.mkdir(parents=True, exist_ok=True)
            self._extract(network, copy, factors, starts, np.memmap(part, np.float16, "w+", shape=shape))
            part.replace(path)
        return np.memmap(path, np.float16, "r", shape=shape), starts

    def _extract(self, network: Network, copy: int, factors: np.ndarray, starts: np.ndarray, into: np.ndarray) -> None:
        config, speech = self._config, self._speech
        learning = network.training
        network.eval()
        done, began = 0.0, time.monotonic()
        with torch.inference_mode():
            for number, group in enumerate(batches(speech.utterances, EXTRACT_S * SAMPLE_RATE, None)):
                torch.manual_seed((config.seed * 1_009 + copy) * 1_000_003 + number)
                places = [self._index[each.corpus, each.id] for each in group]
                samples, lengths = padded([speech.audio(each).astype(np.float32) / 32768 for each in group])
                samples, lengths = change_speed(samples, lengths, torch.from_numpy(factors[places]))
                if copy:
                    samples = disturb(samples, lengths, config.augmentation)
                x, frames = network.stem(samples, lengths)
                x, _ = network.layer_range(x, frames, self.chunk(copy), 0, config.model.frozen_layers)
                for place, row, count in zip(places, x, frames.tolist(), strict=True):
                    into[starts[place] : starts[place] + count] = row[:count].half().numpy()
                done += float(lengths.sum()) / SAMPLE_RATE / 3600
                if number % 50 == 0:
                    say(f"frozen layers, copy {copy + 1}: {done:.2f} hours in {time.monotonic() - began:.0f} s")
        network.train(learning)
