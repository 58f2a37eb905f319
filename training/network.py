"""The encoder in PyTorch, layer by layer the twin of the graphs in `pipelines/models`, with a CTC head.

Offline it is Moonshine's encoder: convolutions without padding, a norm over time, attention over the whole clip.
Streaming, 511 zeros go before the waveform, so that frame t hears samples [384 t - 511, 384 t + 384); the norm has
fixed numbers, and a frame attends to its chunk and to `left_frames` before the chunk.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.models.moonshine import (
    FRAME_SAMPLES,
    HEAD_WIDTH,
    HEADS,
    LAYER_NORM_EPSILON,
    ROTARY_BASE,
    ROTARY_WIDTH,
    WIDTH,
)
from pipelines.models.token_head import READS
from training.config import Model
from training.heads import TokenHead
from training.tokens import TokenLogits
from training.vocabulary import CHARACTERS

CARRY_SAMPLES = 511
"""Samples that a frame of the stem hears beyond its own 384."""
WIDE = 4 * WIDTH
STEM_WIDTH = 2 * WIDTH


def rotary_tables(frames: int) -> tuple[Tensor, Tensor]:
    """Cos and sin, float32 (frames, 16)."""
    frequencies = ROTARY_BASE ** (-torch.arange(0, ROTARY_WIDTH, 2, dtype=torch.float64) / ROTARY_WIDTH)
    angles = torch.arange(frames)[:, None] * frequencies
    return torch.cos(angles).float(), torch.sin(angles).float()


PAIRS = torch.cat((torch.arange(0, ROTARY_WIDTH, 2), torch.arange(1, ROTARY_WIDTH, 2)))
"""Dimensions of a head in the order in which `rotate` wants them: first of each pair, second of each pair."""
_HEAD = torch.cat((PAIRS, torch.arange(ROTARY_WIDTH, HEAD_WIDTH)))
IN_PAIRS = (torch.arange(HEADS)[:, None] * HEAD_WIDTH + _HEAD).flatten()
"""The same for all heads. Scores do not change when queries and keys are both in another order."""


def rotate(x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary embedding of (batch, frames, heads, 52) in the order of `IN_PAIRS`."""
    cos, sin = (table.to(x.dtype)[:, None] for table in tables)
    half = ROTARY_WIDTH // 2
    first, second, rest = x[..., :half], x[..., half:ROTARY_WIDTH], x[..., ROTARY_WIDTH:]
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1)


def drop(x: Tensor, chance: float, training: bool) -> Tensor:
    """Dropout; on a CPU with one mask for the whole batch: a tenth of the random numbers."""
    if not training or chance == 0:
        return x
    if x.is_cuda:
        return functional.dropout(x, chance)
    kept = (torch.rand(x.shape[1:], device=x.device) >= chance).to(x.dtype) / (1 - chance)
    return x * kept


class Norm(nn.Module):
    """LayerNorm with a gain and no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return functional.layer_norm(x, (WIDTH,), self.weight.to(x.dtype), None, LAYER_NORM_EPSILON)


class Attention(nn.Module):
    """Self-attention with rotary positions."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.register_buffer("order", IN_PAIRS, persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None, tables: tuple[Tensor, Tensor]) -> Tensor:
        """Attend; `mask` is added to the scores."""
        batch, frames, _ = x.shape
        matrix = torch.cat((self.q_proj.weight[self.order], self.k_proj.weight[self.order], self.v_proj.weight))
        parts = functional.linear(x, matrix).view(batch, frames, 3, HEADS, HEAD_WIDTH)
        queries, keys = rotate(parts[:, :, 0], tables).transpose(1, 2), rotate(parts[:, :, 1], tables).transpose(1, 2)
        if x.is_cuda:  # the fused kernels want widths of multiples of eight
            wide = [
                functional.pad(part, (0, -HEAD_WIDTH % 8)) for part in (queries, keys, parts[:, :, 2].transpose(1, 2))
            ]
            mixed = functional.scaled_dot_product_attention(
                wide[0], wide[1], wide[2], attn_mask=mask, scale=HEAD_WIDTH**-0.5
            )
            return self.o_proj(mixed[..., :HEAD_WIDTH].transpose(1, 2).reshape(batch, frames, WIDTH))
        if x.dtype == torch.float32:
            mixed = functional.scaled_dot_product_attention(queries, keys, parts[:, :, 2].transpose(1, 2), mask)
            return self.o_proj(mixed.transpose(1, 2).reshape(batch, frames, WIDTH))
        # Products and softmax one by one: on CPUs 1.5 times as fast as the fused kernel in bfloat16.
        scores = (queries * (HEAD_WIDTH**-0.5)) @ keys.transpose(2, 3)
        if mask is not None:
            scores = scores + mask
        mixed = functional.softmax(scores, dim=-1, dtype=scores.dtype) @ parts[:, :, 2].transpose(1, 2)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, frames, WIDTH))


class Feed(nn.Module):
    """The two wide products of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(WIDTH, WIDE), nn.Linear(WIDE, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Widen, bend, narrow."""
        return self.fc2(functional.gelu(self.fc1(x)))


class Layer(nn.Module):
    """Attention and feed-forward, each behind its norm and beside a residual."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = Norm(), Norm()
        self.self_attn, self.mlp = Attention(), Feed()
        self.dropout = dropout

    def forward(self, x: Tensor, mask: Tensor | None, tables: tuple[Tensor, Tensor]) -> Tensor:
        """One layer."""
        x = x + drop(self.self_attn(self.input_layernorm(x), mask, tables), self.dropout, self.training)
        return x + drop(self.mlp(self.post_attention_layernorm(x)), self.dropout, self.training)


class Factored(nn.Module):
    """A convolution as two: to a small rank over the window, then to the outputs."""

    def __init__(self, inputs: int, outputs: int, width: int, stride: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Conv1d(inputs, rank, width, stride, bias=False)
        self.up = nn.Conv1d(rank, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Both convolutions."""
        return self.up(self.down(x))


def factored(state: dict[str, Tensor], ranks: tuple[int, int]) -> dict[str, Tensor]:
    """The best two factors of the convolutions, by singular values, under the names of `Factored`.

    Factors that are already in `state` stay as they are, unless they are of another rank.
    """
    found: dict[str, Tensor] = {}
    for name, rank in zip(("conv2", "conv3"), ranks, strict=True):
        down = state.get(f"{name}.down.weight")
        if not rank or (down is not None and len(down) == rank):
            continue
        if down is None:
            whole, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        else:
            up, bias = state[f"{name}.up.weight"][..., 0], state[f"{name}.up.bias"]
            whole = torch.tensordot(up.float(), down.float(), 1)
        left, values, right = torch.linalg.svd(whole.flatten(1), full_matrices=False)
        roots = values[:rank].sqrt()
        found[f"{name}.down.weight"] = (roots[:, None] * right[:rank]).view(rank, *whole.shape[1:])
        found[f"{name}.up.weight"] = (left[:, :rank] * roots)[..., None]
        found[f"{name}.up.bias"] = bias
    return found


class Affine(nn.Module):
    """Gain and bias of each channel of (batch, channels, time)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(WIDTH)), nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Gain and bias."""
        return x * self.weight[:, None].to(x.dtype) + self.bias[:, None].to(x.dtype)


def stem_frames(samples: Tensor) -> Tensor:
    """Encoder frames of waveforms without padding."""
    first = torch.div(samples - 127, 64, rounding_mode="floor") + 1
    second = torch.div(first - 7, 3, rounding_mode="floor") + 1
    return torch.div(second - 3, 2, rounding_mode="floor") + 1


class Network(nn.Module):
    """Waveform to logits of the units.

    Args:
        config: What it is made of.
        dropout: Of its layers.
        head: States to logits; without, a product that writes characters.
    """

    def __init__(
        self, config: Model, dropout: float = 0.0, head: nn.Linear | TokenLogits | TokenHead | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv1d(1, WIDTH, 127, 64, bias=False)
        self.groupnorm = Affine()
        second, third = config.stem_rank
        self.conv2: nn.Module = (
            Factored(WIDTH, STEM_WIDTH, 7, 3, second) if second else nn.Conv1d(WIDTH, STEM_WIDTH, 7, 3)
        )
        self.conv3: nn.Module = (
            Factored(STEM_WIDTH, WIDTH, 3, 2, third) if third else nn.Conv1d(STEM_WIDTH, WIDTH, 3, 2)
        )
        self.layers = nn.ModuleList(Layer(dropout) for _ in range(config.layers))
        self.layer_norm = Norm()
        self.head = head or nn.Linear(WIDTH, len(CHARACTERS))
        self.reads = READS if isinstance(self.head, TokenHead) else ()
        """Layers whose outputs the head wants."""
        self.register_buffer("stem_mean", torch.zeros(()))
        self.register_buffer("stem_std", torch.ones(()))

    def frames(self, lengths: Tensor) -> Tensor:
        """Real frames of waveforms of so many samples."""
        if not self.config.streaming:
            return stem_frames(lengths)
        # The last frame may hear zeros behind the end: whole frames only, as the chunks of a stream are padded.
        return torch.div(lengths + FRAME_SAMPLES - 1, FRAME_SAMPLES, rounding_mode="floor")

    def stem(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, samples) to (batch, frames, 416) and the frames that are real; counts stay on the CPU."""
        frames = self.frames(lengths)
        if self.config.streaming:
            after = int(frames.max()) * FRAME_SAMPLES - samples.shape[1]
            samples = functional.pad(samples, (CARRY_SAMPLES, max(after, 0)))
        x = torch.tanh(self.conv1(samples[:, None]))
        if self.config.streaming:
            x = (x - self.stem_mean.to(x.dtype)) / self.stem_std.to(x.dtype)
        else:
            x = norm_over_time(x, torch.div(lengths - 127, 64, rounding_mode="floor") + 1)
        x = functional.gelu(self.conv2(self.groupnorm(x)))
        x = functional.gelu(self.conv3(x)).transpose(1, 2)
        return x[:, : int(frames.max())].contiguous(), frames

    def mask(self, frames: Tensor, longest: int, chunk_frames: int | Tensor | None) -> Tensor | None:
        """Which keys (last axis) a frame may look at, as numbers to add: 0 or minus infinity."""
        positions = torch.arange(longest)
        allowed = (positions[None] < frames[:, None])[:, None, None, :]
        if chunk_frames is not None:
            chunk = torch.as_tensor(chunk_frames).view(-1, 1)
            start = torch.div(positions, chunk, rounding_mode="floor") * chunk
            inside = positions < (start + chunk)[..., None]
            inside &= positions >= (start - self.config.left_frames)[..., None]
            allowed = allowed & inside[:, None]
            # Rows behind the end of a clip see themselves, so that no row is empty.
            allowed = allowed | torch.eye(longest, dtype=torch.bool)[None, None]
        elif bool((frames == longest).all()):
            return None
        return torch.zeros(allowed.shape).masked_fill(~allowed, -math.inf)

    def layer_range(
        self,
        x: Tensor,
        frames: Tensor,
        chunk_frames: int | Tensor | None,
        first: int,
        last: int,
        keep: tuple[int, ...] = (),
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Run layers `first` to `last - 1`; `keep` names those whose outputs are given back too (x is that of `first`).

        `chunk_frames`: for all clips or for each.
        """
        mask = self.mask(frames, x.shape[1], chunk_frames)
        if mask is not None:
            mask = mask.to(x.device, x.dtype)
        cos, sin = (table.to(x.device, x.dtype, non_blocking=True) for table in rotary_tables(x.shape[1]))
        kept: dict[int, Tensor] = {first: x} if first in keep else {}
        for index in range(first, last):
            x = self.layers[index](x, mask, (cos, sin))
            if index + 1 in keep:
                kept[index + 1] = x
        return x, kept

    def states(self, x: Tensor, kept: dict[int, Tensor], frames: Tensor) -> tuple[Tensor, Tensor]:
        """What the labels are read from, and how many are real, of the last output and of those that the head wants."""
        if not isinstance(self.head, TokenHead):
            return self.layer_norm(x), frames
        real = (torch.arange(x.shape[1])[None] < frames[:, None]).float()[..., None].to(x.device)
        outputs = torch.cat([functional.layer_norm(kept[each], (WIDTH,)) for each in self.reads], -1)
        return self.head.states(outputs, real), -(-frames // self.head.stride)

    @property
    def labels(self) -> nn.Module:
        """The part of the head that makes logits of states."""
        return self.head.units if isinstance(self.head, TokenHead) else self.head

    def logits(self, states: Tensor) -> Tensor:
        """Logits of all labels, float32."""
        logits: Tensor = self.labels(states)
        return logits.float()

    def drawn_logits(self, states: Tensor, targets: list[list[int]]) -> tuple[Tensor, list[list[int]]]:
        """What a step of training weighs: logits, float32, and its targets in their numbers (`TokenLogits`)."""
        if not isinstance(self.labels, TokenLogits):
            return self.logits(states), targets
        logits, within = self.labels.drawn(states, targets)
        return logits.float(), within

    def forward(self, samples: Tensor, lengths: Tensor, chunk_frames: int | None = None) -> tuple[Tensor, Tensor]:
        """Logits (batch, frames, labels) and which of them are real, of waveforms (batch, samples)."""
        x, frames = self.stem(samples, lengths)
        x, kept = self.layer_range(x, frames, chunk_frames, 0, self.config.layers, self.reads)
        states, frames = self.states(x, kept, frames)
        return self.logits(states), frames


def norm_over_time(x: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit variance over channels and real time together; (batch, channels, time)."""
    wide, lengths = x.float(), lengths.to(x.device)
    real = (torch.arange(x.shape[2], device=x.device)[None] < lengths[:, None])[:, None]
    count = lengths[:, None, None] * x.shape[1]
    mean = (wide * real).sum((1, 2), keepdim=True) / count
    variance = (((wide - mean) * real) ** 2).sum((1, 2), keepdim=True) / count
    return ((wide - mean) * torch.rsqrt(variance + 1e-5)).to(x.dtype)
