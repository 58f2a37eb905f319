"""The tokens of the package's decoder as what a network writes: its table is the last matrix, and stays as it is."""

from __future__ import annotations

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

    Args:
        table: The decoder's rows of the labels but the blank, (labels - 1, 416).
        counts: How often each of these is said in the training speech.
    """

    def __init__(self, table: Tensor, counts: Tensor) -> None:
        super().__init__()
        table = table - table.mean(0)
        self.register_buffer("table", table / table.norm(dim=1).mean(), persistent=False)
        self.register_buffer("chances", (counts + 0.3).sqrt(), persistent=False)
        self.units = nn.Linear(WIDTH, WIDTH)
        self.scale, self.bias = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.zeros(len(table)))
        self.blank = nn.Linear(WIDTH, 1)

    def forward(self, states: Tensor) -> Tensor:
        """Logits of all labels, (batch, frames, labels)."""
        return self._logits(states, torch.arange(len(self.bias), device=states.device))

    def drawn(self, states: Tensor, targets: Sequence[list[int]]) -> tuple[Tensor, list[list[int]]]:
        """What a step of training weighs: the tokens of its own transcripts against `OTHERS` drawn by chance.

        Returns:
            Logits of the blank and of these, and the transcripts in their numbers.
        """
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


def token_logits(units: TokenUnits, texts: Iterable[str]) -> TokenLogits:
    """With weights of chance, for training on these transcripts."""
    said = Counter(label - 1 for text in texts for label in units.encode(text))
    counts = torch.tensor([said[label] for label in range(len(units.kept))], dtype=torch.float32)
    return TokenLogits(rows_of(units.kept), counts)
