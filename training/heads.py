"""Heads on the encoder's layers, with weights that are learned: characters, or the tokens of the package's decoder.

A head reads a learned mix of the outputs of some layers: a convolution module (Gulati et al., Conformer, 2020), a
feed-forward, and the units.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.models.moonshine import WIDTH
from pipelines.models.token_head import READS, STRIDE
from training.losses import ctc_loss
from training.tokens import TokenLogits

HEAD, KERNEL = 256, 11
DROPOUT = 0.1
_OWN = "head.units."
_UNITS = ("units.weight", "units.bias", "blank.weight", "blank.bias", "scale", "bias")


class Head(nn.Module):
    """(batch, frames, layers * 416) to logits."""

    stride = 1
    """Frames of the encoder to one of the logits."""
    rate_share = 1.0
    """Of `rate`."""

    def __init__(self, units: nn.Module, width: int = HEAD) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(len(READS)))
        self.enter = nn.Linear(WIDTH, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.gate, self.after = nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.across = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2, groups=width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.units = units

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """Logits, float32; `real` is 1 where a frame belongs to its clip, (batch, frames, 1)."""
        return self.units(self.states(x, real))

    def drawn(
        self, x: Tensor, frames: Tensor, real: Tensor, targets: list[list[int]]
    ) -> tuple[Tensor, Tensor, list[list[int]]]:
        """What a step of training weighs: logits of what `forward` has, their frames, and the transcripts in them."""
        return self(x, real), frames, targets

    def loss(self, x: Tensor, frames: Tensor, real: Tensor, targets: list[list[int]]) -> Tensor:
        """CTC, per unit."""
        return ctc_loss(*self.drawn(x, frames, real, targets))

    def states(self, x: Tensor, real: Tensor) -> Tensor:
        """What the units are read from, (batch, frames / stride rounded up, width)."""
        return self.norms[2](self._read(x, real))

    def _read(self, x: Tensor, real: Tensor) -> Tensor:
        shares = self.mix.softmax(0)
        x = self.enter((x.unflatten(-1, (len(READS), WIDTH)) * shares[:, None]).sum(-2))
        x = functional.dropout(x, DROPOUT, self.training)
        inner = functional.glu(self.gate(self.norms[0](x))) * real
        inner = functional.silu(self.across(inner.transpose(1, 2)).transpose(1, 2))
        x = x + functional.dropout(self.after(inner), DROPOUT, self.training)
        inner = functional.silu(self.wide(self.norms[1](x)))
        return x + functional.dropout(self.narrow(inner), DROPOUT, self.training)


class TokenHead(Head):
    """Logits over the tokens of the package's decoder, for two frames at a time."""

    stride = STRIDE
    rate_share = 0.5
    units: TokenLogits

    def __init__(self, units: TokenLogits) -> None:
        super().__init__(units, WIDTH)
        self.mix.data[-1] = 1.0  # the last layer is the one that the decoder reads

    def states(self, x: Tensor, real: Tensor) -> Tensor:
        """See `Head`: the mean of each two frames, of what is real in them."""
        return self.norms[2](halved(self._read(x, real), real))

    def drawn(
        self, x: Tensor, frames: Tensor, real: Tensor, targets: list[list[int]]
    ) -> tuple[Tensor, Tensor, list[list[int]]]:
        """See `Head`."""
        logits, within = self.units.drawn(self.states(x, real), targets)
        return logits, -(-frames // self.stride), within


def halved(x: Tensor, real: Tensor) -> Tensor:
    """The mean of each two frames of (batch, frames, width), of what is real in them."""
    sums = (
        functional.pad(each, (0, 0, 0, each.shape[1] % 2)).unflatten(1, (-1, 2)).sum(2) for each in (x * real, real)
    )
    return next(sums) / next(sums).clamp(min=1)


def outer_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a network with a `TokenHead`, under the names of an exported folder: without the units' own."""
    return {
        f"head.{name.removeprefix(_OWN)}" if name.startswith(_OWN) else name: value for name, value in state.items()
    }


def inner_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The other way."""
    return {
        f"{_OWN}{name[5:]}" if name.startswith("head.") and name[5:] in _UNITS else name: value
        for name, value in state.items()
    }
