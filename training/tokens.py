"""The tokens of the package's decoder as what a network writes: its table is the last matrix, and stays as it is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.models.fold import fold, read_ort
from pipelines.models.moonshine import WIDTH, Weights
from pipelines.models.source import DECODER, verified
from training.vocabulary import TokenUnits

OTHERS = 1_500


class TokenLogits(nn.Module):
    """(batch, frames, 416) to logits of the blank and of tokens: the product of a state with a token's row.

    A token that the transcripts hardly have is learned with those whose rows are near its own.

    A step weighs a token against those of its own transcripts and `OTHERS` drawn by chance. What it learns of one is
    then too high by the logarithm of the chance that the token was there to be weighed, which `forward` takes away
    (Jean et al., On Using Very Large Target Vocabulary for Neural Machine Translation, 2015).

    Args:
        table: The decoder's rows of the labels but the blank, (labels - 1, 416).
        counts: How often each of these is said in the training speech; `None` for a network that has learned.
        share: Of the training speech that a step hears.
    """

    def __init__(self, table: Tensor, counts: Tensor | None = None, share: float = 0.0) -> None:
        super().__init__()
        table = table - table.mean(0)
        self.register_buffer("table", table / table.norm(dim=1).mean(), persistent=False)
        weights = torch.ones(len(table)) if counts is None else (counts + 0.3).sqrt()
        self.register_buffer("chances", weights, persistent=False)
        there = torch.zeros(len(table)) if counts is None else log_presence(weights, counts * share)
        self.register_buffer("presence", there, persistent=False)
        self.units = nn.Linear(WIDTH, WIDTH)
        self.scale, self.bias = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.zeros(len(table)))
        self.blank = nn.Linear(WIDTH, 1)
        # At first all tokens are as likely, and the blank as all of them together: where one token happened to be far
        # ahead of the blank, a network whose states have large constant parts stretched tokens and learned no blank.
        nn.init.zeros_(self.units.weight)
        nn.init.zeros_(self.units.bias)
        nn.init.constant_(self.blank.bias, math.log(OTHERS))

    def forward(self, states: Tensor) -> Tensor:
        """Logits of all labels, (batch, frames, labels)."""
        logits = self._logits(states, torch.arange(len(self.bias), device=states.device))
        return logits + functional.pad(self.presence, (1, 0))

    def drawn(self, states: Tensor, targets: Sequence[list[int]]) -> tuple[Tensor, list[list[int]]]:
        """What a step weighs: logits of the blank and of some tokens, and the transcripts in their numbers."""
        said = torch.tensor([label - 1 for target in targets for label in target])
        others = torch.multinomial(self.chances, min(OTHERS, len(self.bias))).cpu()
        rows = torch.cat((said, others)).unique()
        within = [(torch.searchsorted(rows, torch.tensor(target) - 1) + 1).tolist() for target in targets]
        return self._logits(states, rows.to(states.device)), within

    def _logits(self, states: Tensor, rows: Tensor) -> Tensor:
        tokens = functional.linear(self.units(states), self.table[rows]) * self.scale.exp() + self.bias[rows]
        return torch.cat((self.blank(states), tokens), -1)


def rows_of(kept: Sequence[int]) -> Tensor:
    """The decoder's rows of these tokens, float32 (tokens, 416).

    Raises:
        AmiraError: The package's files are missing or have the wrong hash.
    """
    embedding = Weights.of_decoder(fold(read_ort(verified(DECODER)))).embedding()
    return torch.from_numpy(np.ascontiguousarray(embedding.value.T))[list(kept)]


def log_presence(weights: Tensor, said: Tensor) -> Tensor:
    """The logarithm of the chance that a token is in a step.

    Args:
        weights: By which `OTHERS` are drawn without putting back: each is there with about 1 - exp(-k weight), k being
            such that `OTHERS` are expected.
        said: How often a step's transcripts say it, on average (Poisson).
    """
    if len(weights) <= OTHERS:
        return torch.zeros(len(weights))
    q = (weights / weights.sum()).double()
    low, high = 0.0, 1.0
    while float((1 - (-high * q).exp()).sum()) < OTHERS:
        high *= 2
    for _ in range(60):
        k = (low + high) / 2
        low, high = (k, high) if float((1 - (-k * q).exp()).sum()) < OTHERS else (low, k)
    return (1 - (-high * q - said.double()).exp()).log().float()


def token_logits(units: TokenUnits, texts: Iterable[str], share: float) -> TokenLogits:
    """With weights of chance, for training on these transcripts, of which a step hears such a share."""
    said = Counter(label - 1 for text in texts for label in units.encode(text))
    counts = torch.tensor([said[label] for label in range(len(units.kept))], dtype=torch.float32)
    return TokenLogits(rows_of(units.kept), counts, share)
