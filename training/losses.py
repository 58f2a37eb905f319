"""What a training makes small."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def ctc_loss(logits: Tensor, frames: Tensor, targets: list[list[int]]) -> Tensor:
    """Negative log-likelihood of the transcripts, per unit."""
    log_probs = logits.log_softmax(-1).transpose(0, 1)
    flat = torch.tensor([token for target in targets for token in target]).to(logits.device, non_blocking=True)
    sizes = torch.tensor([len(target) for target in targets])
    loss = functional.ctc_loss(log_probs, flat, frames, sizes, reduction="none", zero_infinity=True)
    return loss.sum() / sizes.sum()


def disagreement(logits: Tensor, frames: Tensor) -> Tensor:
    """KL a frame between the halves of a batch that hear the same clips, each to the fixed answer of the other."""
    (one, other), count = logits.log_softmax(-1).chunk(2), frames[: len(frames) // 2]
    real = (torch.arange(logits.shape[1])[None] < count[:, None]).float().to(logits.device, non_blocking=True)
    forth = (other.detach().exp() * (other.detach() - one)).sum(-1)
    back = (one.detach().exp() * (one.detach() - other)).sum(-1)
    return ((forth + back) / 2 * real).sum() / real.sum()
