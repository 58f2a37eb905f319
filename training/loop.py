"""One loop trains every model; it can be stopped at any time and goes on where its last checkpoint is."""

from __future__ import annotations

import itertools
import json
import math
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.output import say
from pipelines.acoustic.tokens import read_symbols
from pipelines.contracts import SAMPLE_RATE
from pipelines.errors import AmiraError
from pipelines.models.moonshine import FRAME_SAMPLES, WIDTH
from pipelines.paths import model_repo_dir
from training.augment import change_speed, disturb
from training.config import Augmentation, TrainingConfig
from training.data import Utterance, batches, load_speech
from training.evaluate import DEV_EACH, error_rates, padded, spread, transcribe
from training.exported import TOKENS, base_of, export, load_exported, load_known, own_state
from training.frozen import Frozen
from training.heads import TokenHead, inner_names
from training.losses import ctc_loss, disagreement
from training.network import CARRY_SAMPLES, Network, factored
from training.pretrained import encoder_state
from training.tokens import TokenLogits, token_logits
from training.vocabulary import TokenUnits, open_units

Batch = tuple[Tensor, Tensor, list[list[int]]]
"""Waveforms or what the frozen layers make of them, their lengths, and the units of their transcripts."""
LOG_EVERY = 20
EXPORT = "export"
"""Folder of the weights in a training's folder."""


class Trainer:
    """A network, its optimiser and its data.

    Args:
        config: What to do.
        folder: Checkpoints, logs and exported weights go here.
        cache: Decoded speech is kept here.
        device: `cpu` or `cuda`.
    """

    def __init__(self, config: TrainingConfig, folder: Path, cache: Path, device: str = "cpu") -> None:
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.threads)
        torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for every length: 60 % of a step went there
        self.config, self.folder, self.device = config, folder, device
        speech = load_speech(config.corpus, cache)
        self.speech = speech.part(config.hours, config.seed) if config.hours else speech
        self.dev = load_speech(config.dev, cache)
        self.dev_utterances = spread(self.dev.utterances, DEV_EACH)
        self.units = open_units(config, (utterance.text for utterance in self.speech.utterances), folder)
        self.network = Network(config.model, config.dropout, self._head()).to(device)
        self.teacher = self._teacher()
        self._start_weights()
        self.frozen = Frozen(self.network, config, speech, cache) if config.copies else None
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.optimizer = self._optimizer()
        self.step, self.elapsed_s = 0, 0.0
        self._stop = False

    def _head(self) -> nn.Linear | TokenLogits | TokenHead:
        if isinstance(self.units, TokenUnits):
            share = self.config.batch_s / 3600 / self.speech.hours
            logits = token_logits(self.units, (utterance.text for utterance in self.speech.utterances), share)
            return TokenHead(logits) if self.config.head == "module" else logits
        return nn.Linear(WIDTH, len(self.units.labels))

    def _start_weights(self) -> None:
        config = self.config
        state = encoder_state()
        for folder in config.init:
            state |= own_state(Path(folder))
        state |= factored(state, config.model.stem_rank)
        if isinstance(self.network.labels, TokenLogits) and len(state.get("head.bias", ())) == len(
            self.network.labels.bias
        ):
            state["head.bias"] = state["head.bias"] - self.network.labels.presence
        if isinstance(self.network.head, TokenHead):
            state = inner_names(state)
        missing = load_known(self.network, state)
        say(f"not in the start weights: {', '.join(missing) or 'none'}")
        if config.model.streaming and float(self.network.stem_std) == 1:
            self._measure_stem()
        for index, layer in enumerate(self.network.layers):
            layer.requires_grad_(index >= config.model.frozen_layers)
        for part in (self.network.conv1, self.network.groupnorm, self.network.conv2, self.network.conv3):
            part.requires_grad_(config.model.frozen_layers == 0)

    def _measure_stem(self) -> None:
        """The fixed numbers of the norm: what the norm over time divides by, on average."""
        chosen = spread(self.speech.utterances, 100, seed=1)
        means, squares = [], []
        with torch.inference_mode():
            for utterance in chosen:
                wave = torch.from_numpy(self.speech.audio(utterance).astype(np.float32) / 32768).to(self.device)
                x = torch.tanh(self.network.conv1(wave[None, None]))
                means.append(float(x.mean()))
                squares.append(float(x.var()))
        self.network.stem_mean.fill_(float(np.mean(means)))
        self.network.stem_std.fill_(math.sqrt(float(np.mean(squares))))
        say(f"stem: mean {float(self.network.stem_mean):.5f}, std {float(self.network.stem_std):.5f}")

    def _teacher(self) -> Network | None:
        config = self.config
        if not config.teacher:
            return None
        if config.teacher == "package":
            teacher = Network(config.model.model_copy(update={"streaming": False, "layers": 8, "stem_rank": (0, 0)}))
            load_known(teacher, encoder_state())
        else:
            teacher = load_exported(Path(config.teacher))[0]
            symbols = read_symbols(Path(config.teacher) / TOKENS)
            if config.teacher_weight and tuple(symbols) != self.units.labels:
                raise AmiraError(
                    f"teacher {config.teacher} writes {len(symbols)} other units than this model's "
                    f"{len(self.units.labels)}: its posteriors mean nothing here. Set teacher_weight = 0"
                )
        return teacher.to(self.device).eval().requires_grad_(False)

    def _optimizer(self) -> torch.optim.Optimizer:
        bases: dict[float, list[torch.nn.Parameter]] = {}
        for name, value in self.network.named_parameters():
            if value.requires_grad:
                bases.setdefault(self._full_rate(name), []).append(value)
        groups = [{"params": values, "base": base} for base, values in bases.items()]
        return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), weight_decay=self.config.weight_decay, fused=True)

    def _full_rate(self, name: str) -> float:
        """The learning rate of a parameter where the schedule is at its height."""
        config = self.config
        if name.startswith("head"):
            return config.head_learning_rate
        part, index, *_ = name.split(".")
        below = 0 if part == "layer_norm" else config.model.layers - (int(index) if part == "layers" else -1) - 1
        return config.learning_rate * config.layer_decay**below

    def learning_rate(self, step: int) -> float:
        """A share of the full rate: rises, stays, falls to zero in a straight line."""
        config = self.config
        falling = config.steps * config.decay
        return min(1.0, (step + 1) / config.warm_up_steps, max(0.0, (config.steps - step) / max(falling, 1)))

    def stop(self, *_: object) -> None:
        """Save and end after the present step; also what SIGINT and SIGTERM do from the command line."""
        say("stopping after this step; the same command goes on from here")
        self._stop = True

    def run(self, until: int | None = None) -> None:
        """Train to the last step, to step `until`, or until `stop` is called."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        start = time.monotonic() - self.elapsed_s
        recent: list[dict[str, Tensor]] = []
        for samples, lengths, targets in self._prefetched():
            losses = self._learn(samples, lengths, targets)
            self.step += 1
            self.elapsed_s = time.monotonic() - start
            recent.append(losses)
            if self.step % LOG_EVERY == 0:
                means = {name: round(float(sum(one[name] for one in recent)) / len(recent), 4) for name in losses}
                rate = self.learning_rate(self.step)
                self._log({"step": self.step, "elapsed_s": round(self.elapsed_s, 1), "lr": round(rate, 4)} | means)
                recent = []
            last = self.step >= self.config.steps
            if self.step % self.config.evaluate_every == 0 or last:
                self._evaluate()
            if self.step % self.config.save_every == 0 or last or self._stop or self.step == until:
                self._save()
            if last or self._stop or self.step == until:
                return

    def _learn(self, samples: Tensor, lengths: Tensor, targets: list[list[int]]) -> dict[str, Tensor]:
        config = self.config
        torch.manual_seed(config.seed * 1_000_003 + self.step)  # chance depends on the step alone: see `_groups`
        rate = self.learning_rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * rate
        with torch.autocast(self.device, torch.bfloat16, enabled=config.precision == "bf16"):
            if self.frozen is not None:
                if config.consistency_weight:
                    samples, lengths, targets = torch.cat((samples,) * 2), torch.cat((lengths,) * 2), targets * 2
                chunk = self.frozen.chunk(self._copy(self.step))
                losses = self._upper(samples.to(self.device), lengths, chunk, targets)
            else:
                losses = self._disturbed(samples, lengths, targets)
        total = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip_norm)
        if bool(torch.isfinite(norm)):
            self.optimizer.step()
        decay = min(config.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value, 1 - decay)
        return {name: value.detach() for name, value in losses.items()} | {"norm": norm}

    def _disturbed(self, samples: Tensor, lengths: Tensor, targets: list[list[int]]) -> dict[str, Tensor]:
        """The losses of waveforms, disturbed by chance."""
        config = self.config
        chance, speeds = config.augmentation.speed_chance, config.augmentation.speed
        factors = torch.rand(len(lengths), dtype=torch.float64) * (speeds[1] - speeds[0]) + speeds[0]
        factors[torch.rand(len(lengths)) >= chance] = 1.0
        with torch.autocast(self.device, enabled=False):
            clean, lengths = change_speed(samples.to(self.device, non_blocking=True), lengths, factors)
            if config.consistency_weight:
                clean, lengths, targets = torch.cat((clean, clean)), torch.cat((lengths, lengths)), targets + targets
            heard = disturb(clean, lengths, config.augmentation)
        return self._losses(heard, clean, lengths, targets)

    def _losses(self, samples: Tensor, clean: Tensor, lengths: Tensor, targets: list[list[int]]) -> dict[str, Tensor]:
        """What is wrong with what the network makes of disturbed speech; a teacher hears it `clean`."""
        config, network = self.config, self.network
        chunk = self._chunk(len(lengths))
        frozen = config.model.frozen_layers
        with torch.set_grad_enabled(frozen == 0):
            x, frames = network.stem(samples, lengths)
            if frozen:
                x, _ = network.layer_range(x, frames, chunk, 0, frozen)
        return self._upper(x, frames, chunk, targets, clean)

    def _upper(
        self,
        x: Tensor,
        frames: Tensor,
        chunk: int | Tensor | None,
        targets: list[list[int]],
        clean: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The losses from the output of the last frozen layer on; only a teacher wants `clean`."""
        config, network, frozen = self.config, self.network, self.config.model.frozen_layers
        x = mask_spans(x, config.augmentation)
        middle = config.hidden_layer if config.hidden_weight else 0
        keep = tuple({config.inter_layer, middle, *network.reads} - {0})
        x, kept = network.layer_range(x, frames, chunk, frozen, config.model.layers, keep)
        losses: dict[str, Tensor] = {}
        if config.ctc_weight:
            states, counts = network.states(x, kept, frames)
            logits, within = network.drawn_logits(states, targets)
            losses["ctc"] = config.ctc_weight * ctc_loss(logits, counts, within)
            if config.inter_layer:
                inner, within = network.drawn_logits(network.layer_norm(kept[config.inter_layer]), targets)
                losses["inter"] = config.inter_weight * ctc_loss(inner, frames, within)
            if config.consistency_weight:
                losses["consistency"] = config.consistency_weight * disagreement(logits, counts)
        if self.teacher is not None and clean is not None:
            losses |= self._distances(clean, frames, kept.get(middle), x)
        return losses

    def _distances(self, samples: Tensor, frames: Tensor, middle: Tensor | None, x: Tensor) -> dict[str, Tensor]:
        """How far the student is from what the teacher, who hears everything, makes of the same frames."""
        config, teacher = self.config, self.teacher
        assert teacher is not None
        longest = x.shape[1]
        with torch.no_grad():
            whole = longest * FRAME_SAMPLES + CARRY_SAMPLES
            shifted = functional.pad(samples, (CARRY_SAMPLES, 0))
            shifted = functional.pad(shifted, (0, max(0, whole - shifted.shape[1])))[:, :whole]
            hidden, count = teacher.stem(shifted, frames * FRAME_SAMPLES + CARRY_SAMPLES)
            half = config.hidden_layer
            last = teacher.config.layers if config.teacher_weight else half
            hidden, kept = teacher.layer_range(hidden, count, None, 0, last, (half,))
        real = (torch.arange(longest)[None] < frames[:, None]).float().to(x.device, non_blocking=True)
        losses: dict[str, Tensor] = {}
        if config.hidden_weight and middle is not None:
            target = kept[half].float()
            spread_ = target.reshape(-1, target.shape[-1]).std(0) + 1e-3
            distance = (((middle.float() - target) / spread_) ** 2).mean(-1)
            losses["hidden"] = config.hidden_weight * (distance * real).sum() / real.sum()
        if config.teacher_weight:
            with torch.no_grad():
                wanted = teacher.logits(teacher.layer_norm(hidden)).log_softmax(-1)
                wanted, heard = wanted[:, : longest - config.teacher_delay], real[:, config.teacher_delay :]
            said = self.network.logits(self.network.layer_norm(x[:, config.teacher_delay :])).log_softmax(-1)
            distance = (wanted.exp() * (wanted - said)).sum(-1)
            losses["teacher"] = config.teacher_weight * (distance * heard).sum() / heard.sum()
        return losses

    def _chunk(self, clips: int) -> int | Tensor | None:
        """Frames of a chunk, or of each clip's: the two hearings of a clip differ in theirs, if it is heard twice."""
        if not self.config.model.streaming:
            return None
        chunks = self.config.model.chunk_frames
        rng = np.random.default_rng((self.config.seed, 1, self.step))
        # The default half of the time, the others in turn by chance.
        chosen = chunks[0] if rng.random() < 0.5 else int(rng.choice(chunks))
        if not self.config.consistency_weight:
            return chosen
        return torch.tensor([chosen, int(rng.choice(chunks))]).repeat_interleave(clips // 2)

    def _prefetched(self) -> Iterator[Batch]:
        """Batches from the present step on, made ahead in a thread."""
        ready: queue.Queue[Any] = queue.Queue(3)

        def work(first: int) -> None:
            try:
                for index, group in enumerate(self._groups()):
                    if index >= first:
                        ready.put(self._batch(group, index))
            except BaseException as error:  # noqa: BLE001 (handed to the training thread, which raises it)
                ready.put(error)

        threading.Thread(target=work, args=(self.step,), daemon=True).start()
        while True:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    def _groups(self) -> Iterator[list[Utterance]]:
        """The batches of all epochs; the same for the same seed, so that a resumed training is the same training."""
        for epoch in itertools.count():
            rng = np.random.default_rng((self.config.seed, 2, epoch))
            yield from batches(self.speech.utterances, int(self.config.batch_s * SAMPLE_RATE), rng)

    def _copy(self, step: int) -> int:
        """Which copy of the frozen layers' outputs a step hears."""
        return int(np.random.default_rng((self.config.seed, 4, step)).integers(self.config.copies))

    def _batch(self, group: list[Utterance], step: int) -> Batch:
        targets = [self.units.encode(utterance.text) for utterance in group]
        if self.frozen is not None:
            return *self.frozen.batch(group, self._copy(step)), targets
        samples, lengths = padded([self.speech.audio(utterance).astype(np.float32) / 32768 for utterance in group])
        if self.device != "cpu":
            samples = samples.pin_memory()
        return samples, lengths, targets

    def _evaluate(self) -> None:
        kept = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        chunk = self.config.model.chunk_frames[0] if self.config.model.streaming else None
        rates = {}
        if self.config.ctc_weight:
            rates = error_rates(
                transcribe(
                    self.network, self.units, self.dev, self.dev_utterances, chunk, self.device, self.config.precision
                ),
                self.dev_utterances,
            )
        hours = round(self.speech.hours, 2)
        self._log({"step": self.step, "elapsed_s": round(self.elapsed_s, 1), "hours": hours, "wer": rates})
        training = self.config.model_dump()
        training |= {"init": [_name(path) for path in self.config.init], "teacher": _name(self.config.teacher)}
        facts = {"training": training, "step": self.step, "hours": hours, "wer": rates}
        facts["speech"] = self.speech.hours_by_corpus()
        export(self.folder / EXPORT, self.network, self.units, self.average, facts, self._over())
        self.network.load_state_dict(kept)

    def _over(self) -> str:
        """The model of the project that the frozen layers come from, where there is one."""
        model = self.config.model
        if not (model.streaming and model.frozen_layers and self.config.init):
            return ""
        last = Path(self.config.init[-1]).resolve()
        return last.name if last.parent == model_repo_dir().resolve() else base_of(last, model.frozen_layers)

    def _log(self, entry: dict[str, Any]) -> None:
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        say(json.dumps(entry))

    def _save(self) -> None:
        part = self.folder / "checkpoint.part"
        torch.save(
            {
                "network": self.network.state_dict(),
                "average": self.average,
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "elapsed_s": self.elapsed_s,
            },
            part,
        )
        part.replace(self.folder / "checkpoint.pt")

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return
        saved = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(saved["network"])
        self.average = saved["average"]
        bases = [group["base"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(saved["optimizer"])
        for group, base in zip(self.optimizer.param_groups, bases, strict=True):
            group["base"] = base  # the configuration's, which may have changed
        self.step, self.elapsed_s = saved["step"], saved["elapsed_s"]
        say(f"goes on at step {self.step}")


def mask_spans(x: Tensor, config: Augmentation) -> Tensor:
    """Zero random spans of frames and of channels (SpecAugment on hidden states)."""
    batch, frames, width = x.shape
    time = _spans((batch, frames), config.time_masks / config.time_mask_frames, config.time_mask_frames, x)
    across = _spans((batch, width), config.channel_masks, config.channel_mask_width, x)
    return x * (time[:, :, None] * across[:, None])


def _spans(shape: tuple[int, int], chance: float, width: int, like: Tensor) -> Tensor:
    """0 where a span covers a place and 1 elsewhere, (batch, n); at each place one begins with that chance."""
    starts = (torch.rand(shape, device=like.device) < chance).to(like.dtype)
    covered = functional.max_pool1d(functional.pad(starts[:, None], (width - 1, 0)), width, 1)
    return 1 - covered[:, 0]


def _name(path: str) -> str:
    """What to call an exported folder in a model that came from it: the training's name, not where it lay."""
    return Path(path).parent.name if Path(path).name == EXPORT else Path(path).name
