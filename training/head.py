"""`python -m training.head`: a CTC head on the package's encoder as it is, whose outputs are computed once.

The encoder keeps its weights, so that an epoch costs the head alone: what a learning curve over the hours of speech
needs (`training.hours`), and what trainings that change the encoder start from. It is one of `training.heads`.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from safetensors.torch import save_file
from torch import nn

from harness.output import say
from pipelines.contracts import SAMPLE_RATE
from pipelines.errors import AmiraError
from pipelines.models.token_head import TOKENS as KEPT
from training.augment import change_speed, uniform
from training.augment import real as inside
from training.config import Augmentation
from training.data import Speech, Utterance, batches, load_speech
from training.evaluate import DEV_EACH, error_rates, spread
from training.exported import WEIGHTS, write_labels
from training.features import EXTRACT_S, Features, Known, Together, batch_of
from training.heads import HEAD, Head, TokenHead, outer_names
from training.loop import EXPORT, mask_spans
from training.losses import ctc_loss, disagreement
from training.tokens import token_logits
from training.vocabulary import CharacterUnits, TokenUnits, Units, collapse, package_tokens

BATCH_S = 120
STEPS, WARM_UP, DECAY = 2_400, 200, 0.6
RATE, WEIGHT_DECAY, AVERAGE = 2e-3, 0.01, 0.998
MASKS = Augmentation(time_masks=0.15, time_mask_frames=8, channel_masks=0.0)
TWICE_MASKS = MASKS.model_copy(update={"time_masks": 0.3})
CONSISTENCY = 0.2
"""Weight of the distance between the two answers to a clip that is heard twice."""
SPEED = 0.85, 1.15
"""How much slower and faster such a clip is heard: its frames, since they are computed once."""
EVALUATE_EVERY = 400
"""Steps between two checkpoints with word error rates."""
SAY_EVERY = 50
CHECKPOINT = "checkpoint.pt"


def of_characters() -> tuple[Head, Units]:
    """A head that writes characters, with weights of chance."""
    units = CharacterUnits()
    return Head(nn.Linear(HEAD, len(units.labels))), units


def of_tokens(utterances: Sequence[Utterance]) -> tuple[TokenHead, TokenUnits]:
    """A head that writes the tokens of the package's decoder, for training on these utterances."""
    texts = [each.text for each in utterances]
    units = package_tokens(texts)
    share = BATCH_S * SAMPLE_RATE / sum(each.samples for each in utterances)
    return TokenHead(token_logits(units, texts, share)), units


def rate(step: int, steps: int) -> float:
    """The learning rate of one of so many steps: rises, stays, falls to zero in a straight line."""
    return RATE * min(1.0, (step + 1) / WARM_UP, (steps - step) / (steps * DECAY))


def train(
    utterances: Sequence[Utterance],
    features: Known,
    dev: Sequence[Utterance],
    dev_features: Known,
    folder: Path,
    seed: int,
    steps: int = STEPS,
    every: int = EVALUATE_EVERY,
    until: int | None = None,
    tokens: bool = False,
    names: tuple[str, str] = ("", ""),
    twice_from: int | None = None,
) -> None:
    """Train a head, or go on with it, to the end or to step `until`; its log and checkpoint are in `folder`.

    From step `twice_from` on it hears each clip twice, at one speed and masked in two ways, and the two answers are
    drawn together (Yao et al., CR-CTC, 2024).

    With `tokens` it writes the tokens of the package's decoder, else characters; what a model is built from is then in
    the folder `export`, and `names` are those of training and dev speech, for its card.
    """
    torch.manual_seed(seed)
    head, units = of_tokens(utterances) if tokens else of_characters()
    average = copy.deepcopy(head)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY, fused=True)
    hours = round(sum(each.samples for each in utterances) / SAMPLE_RATE / 3600, 2)
    folder.mkdir(parents=True, exist_ok=True)
    begun = _resumed(folder / CHECKPOINT, head, average, optimizer)
    losses: list[float] = []
    for step, group in enumerate(itertools.islice(_groups(utterances, seed), until or steps)):
        if step < begun:
            continue
        torch.manual_seed(seed * 1_000_003 + step)  # chance depends on the step alone
        for each in optimizer.param_groups:
            each["lr"] = rate(step, steps) * head.rate_share
        x, frames, real = batch_of(features, group)
        targets = [units.encode(each.text) for each in group]
        if twice_from is None or step < twice_from:
            loss = ctc = head.loss(mask_spans(x, MASKS), frames, real, targets)
        else:
            x, frames = change_speed(x, frames, uniform(len(x), SPEED, x)[:, 0].double())
            x, frames = torch.cat((x, x)), torch.cat((frames, frames))
            real = inside(frames, x).float()[..., None]
            logits, counts, within = head.drawn(mask_spans(x, TWICE_MASKS), frames, real, targets + targets)
            ctc = ctc_loss(logits, counts, within)
            loss = ctc + CONSISTENCY * disagreement(logits, counts)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            decay = min(AVERAGE, (1 + step) / (10 + step))
            for own, other in zip(average.parameters(), head.parameters(), strict=True):
                own.lerp_(other, 1 - decay)
        losses.append(float(ctc.detach()))
        if (step + 1) % SAY_EVERY == 0:
            say(f"step {step + 1} of {steps}: ctc {np.mean(losses[-SAY_EVERY:]):.3f}")
        if (step + 1) % every and step + 1 != steps:
            continue
        rates = error_rates(_texts(average, units, dev_features, dev), dev)
        entry = {"step": step + 1, "ctc": round(float(np.mean(losses)), 4), "hours": hours}
        with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry | {"wer": rates}) + "\n")
        say(json.dumps(entry | {"wer": rates}))
        losses = []
        if isinstance(average, TokenHead) and isinstance(units, TokenUnits):
            recipe = {"name": folder.name, "seed": seed, "steps": steps} | _recipe(names, twice_from)
            learned = Speech(np.empty(0, np.int16), utterances).hours_by_corpus()
            facts = {"training": recipe, "step": step + 1, "hours": hours, "wer": rates, "speech": learned}
            export_tokens(folder / EXPORT, average, units, facts)
        state = {"head": head.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
        part = (folder / CHECKPOINT).with_suffix(".part")
        torch.save(state | {"step": step + 1}, part)
        part.replace(folder / CHECKPOINT)


def _recipe(names: tuple[str, str], twice_from: int | None) -> dict[str, Any]:
    """What a model's card says of how it was trained."""
    corpus, dev = names
    said = {"corpus": corpus, "dev": dev, "units": "tokens", "batch_s": BATCH_S, "init": [], "teacher": ""}
    return said if twice_from is None else said | {"consistency_weight": CONSISTENCY, "twice_from": twice_from}


def export_tokens(folder: Path, head: TokenHead, units: TokenUnits, facts: dict[str, Any]) -> None:
    """Write what `pipelines.models.token_head` builds from: weights in half precision, labels, configuration."""
    tensors = {KEPT: torch.tensor(units.kept, dtype=torch.int32)}
    state = head.state_dict()
    state["units.bias"] = state["units.bias"] + head.units.presence
    own = outer_names({f"head.{name}": value for name, value in state.items()})
    tensors |= {name: value.half().contiguous() for name, value in own.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS)
    write_labels(folder, units)
    about = {"streaming": False, "units": "tokens", "facts": facts}
    (folder / "config.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")


def _resumed(path: Path, head: Head, average: Head, optimizer: torch.optim.Optimizer) -> int:
    """Steps of a training that was stopped, whose state it sets; 0 of none."""
    if not path.is_file():
        return 0
    saved = torch.load(path, weights_only=True)
    own = {name: value.shape for name, value in head.state_dict().items()}
    if {name: value.shape for name, value in saved["head"].items()} != own:
        raise AmiraError(f"{path} is of a head that writes other units. Train in another folder")
    head.load_state_dict(saved["head"])
    average.load_state_dict(saved["average"])
    optimizer.load_state_dict(saved["optimizer"])
    say(f"goes on at step {saved['step']}")
    return int(saved["step"])


def _groups(utterances: Sequence[Utterance], seed: int) -> Iterator[list[Utterance]]:
    """The batches of all epochs."""
    for epoch in itertools.count():
        yield from batches(utterances, BATCH_S * SAMPLE_RATE, np.random.default_rng((seed, epoch)))


def _texts(head: Head, units: Units, features: Known, utterances: Sequence[Utterance]) -> dict[str, str]:
    head.eval()
    texts = {}
    with torch.inference_mode():
        for group in batches(utterances, EXTRACT_S * SAMPLE_RATE, None):
            x, frames, real = batch_of(features, group)
            for each, labels, count in zip(group, head(x, real).argmax(-1), frames.tolist(), strict=True):
                texts[each.id] = collapse(units, labels[: -(-count // head.stride)].tolist())
    return texts


def main(
    folder: Annotated[Path, typer.Option(help="Log and checkpoint; an unfinished training is resumed.")],
    cache: Annotated[Path, typer.Option(help="Decoded speech and the encoder's outputs (6 GB for 12 hours).")],
    hours: Annotated[float, typer.Option(min=0.0, help="So many hours of each corpus, by chance; 0: all.")] = 0.0,
    corpus: Annotated[list[str] | None, typer.Option(help="To learn from, any number; without: shared:train.")] = None,
    dev: Annotated[str, typer.Option(help="What it is measured on.")] = "shared:dev",
    tokens: Annotated[bool, typer.Option(help="Write the tokens of the package's decoder, not characters.")] = False,
    steps: Annotated[int, typer.Option(min=1, help="Of training.")] = STEPS,
    twice_from: Annotated[int | None, typer.Option(min=0, help="Hear each clip twice from this step on.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of PyTorch.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the part, the weights and the batches.")] = 1,
) -> None:
    """Train a CTC head on the encoder as the package has it."""
    torch.set_num_threads(threads)
    parts = [load_speech(name, cache) for name in corpus or ["shared:train"]]
    heard = load_speech(dev, cache)
    features = Together([(speech, Features(speech, speech.utterances, cache)) for speech in parts])
    measured = spread(heard.utterances, DEV_EACH)
    learned = [each for speech in parts for each in (speech.part(hours, seed) if hours else speech).utterances]
    train(
        learned,
        features,
        measured,
        Features(heard, measured, cache),
        folder,
        seed,
        steps,
        tokens=tokens,
        names=(", ".join(corpus or ["shared:train"]), dev),
        twice_from=twice_from,
    )


if __name__ == "__main__":
    typer.run(main)
