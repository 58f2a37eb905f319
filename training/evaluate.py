"""Word error rates of a network in training, by greedy decoding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import jiwer
import numpy as np
import torch
from torch import Tensor

from training.data import Speech, Utterance, batches
from training.network import Network
from training.vocabulary import Units, collapse

DEV_EACH = 60
"""Utterances of each dev corpus that a word error rate beside the weights is measured on."""


def spread(utterances: Sequence[Utterance], each: int, seed: int = 0) -> list[Utterance]:
    """At most `each` random utterances of every corpus."""
    groups: dict[str, list[Utterance]] = defaultdict(list)
    for index in np.random.default_rng(seed).permutation(len(utterances)):
        utterance = utterances[index]
        if len(groups[utterance.corpus]) < each:
            groups[utterance.corpus].append(utterance)
    return [utterance for group in groups.values() for utterance in group]


def padded(waves: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """float32 (batch, longest) and lengths of waveforms."""
    lengths = torch.tensor([len(wave) for wave in waves])
    batch = torch.zeros(len(waves), int(lengths.max()))
    for row, wave in zip(batch, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    return batch, lengths


def transcribe(
    network: Network,
    units: Units,
    speech: Speech,
    utterances: Sequence[Utterance],
    chunk_frames: int | None,
    device: str = "cpu",
    precision: str = "fp32",
) -> dict[str, str]:
    """Greedy text by utterance id."""
    network.eval()
    texts: dict[str, str] = {}
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        for group in batches(utterances, 40 * 16_000, None):
            waves = [speech.audio(utterance).astype(np.float32) / 32768 for utterance in group]
            samples, lengths = padded(waves)
            logits, frames = network(samples.to(device), lengths, chunk_frames)
            best = logits.argmax(-1).cpu()
            for utterance, labels, count in zip(group, best, frames.tolist(), strict=True):
                texts[utterance.id] = collapse(units, labels[:count].tolist())
    network.train()
    return texts


def error_rates(texts: dict[str, str], utterances: Sequence[Utterance]) -> dict[str, float]:
    """Word error rate in per cent, and the count of empty answers, by corpus."""
    groups: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        groups[utterance.corpus].append(utterance)
    rates: dict[str, float] = {}
    for corpus, members in sorted(groups.items()):
        said = [texts[member.id] for member in members]
        rates[corpus] = round(100 * jiwer.wer([member.text for member in members], said), 2)
        rates[f"{corpus} empty"] = sum(not text for text in said)
    return rates
