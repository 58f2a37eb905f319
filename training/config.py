"""What a training does: a TOML file becomes a frozen object."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.errors import AmiraError
from pipelines.models.token_head import READS


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Augmentation(_Frozen):
    """Chances and ranges of the changes to a waveform, and of the masks over hidden states."""

    speed: tuple[float, float] = (0.88, 1.12)
    speed_chance: float = 0.6
    snr_db: tuple[float, float] = (3.0, 25.0)
    noise_chance: float = 0.4
    level_db: tuple[float, float] = (-20.0, 6.0)
    level_chance: float = 0.5
    room_chance: float = 0.0
    equaliser_db: float = 8.0
    equaliser_chance: float = 0.0
    stop_hz: float = 1_200.0
    """Largest width of a band that is taken out of the waveform."""
    stop_chance: float = 0.0
    time_masks: float = 0.1
    """Share of frames that are masked, in spans of `time_mask_frames`."""
    time_mask_frames: int = 8
    channel_masks: float = 0.008
    """Share of channels at which a mask of `channel_mask_width` starts."""
    channel_mask_width: int = 24


class Model(_Frozen):
    """Which network is trained.

    Attributes:
        streaming: Causal chunks with a fixed norm, or the whole clip at once.
        layers: Layers from the bottom.
        frozen_layers: Layers (with the stem, if any) that keep the package's weights.
        left_frames: Frames before its chunk that a frame attends to, when streaming.
        chunk_frames: Chunk lengths that training draws from, when streaming; the first is the default of the model.
        stem_rank: Ranks of the second and third convolution when they are written as two factors; 0 leaves them whole.
    """

    streaming: bool = False
    layers: int = Field(default=8, ge=1, le=8)
    frozen_layers: int = Field(default=4, ge=0, le=8)
    left_frames: int = 84
    chunk_frames: tuple[int, ...] = (7, 4, 14, 28, 56)
    stem_rank: tuple[int, int] = (0, 0)


class TrainingConfig(_Frozen):
    """One training.

    Attributes:
        name: Name of the model that comes out.
        corpus: What it learns from, as `amira corpus show` takes it.
        dev: What it is measured on.
        hours: Only a random part of so many hours, for learning curves; 0 for all.
        units: What it writes: characters, pieces of words learned from the transcripts (needs sentencepiece), or the
            tokens of the package's decoder, whose table is then the last matrix and stays as it is.
        head: What makes logits of states: one product, or for clips heard whole and tokens a module that reads several
            layers (`training.heads.TokenHead`).
        bpe_size: How many pieces, with the blank.
        token_limit: Of the decoder's tokens, only so many: single characters and what was merged first; 0 for all of
            lower-case English. For a model that has no room for the whole table.
        init: Exported folders to start from, each over those before; below them lies the package's encoder.
        copies: Compute what the frozen layers make of the speech once, in so many files, the first undisturbed; 0: anew
            at every step. For a CPU: 1.5 GB a copy of 12 hours, which trainings of fewer `hours` or more layers share.
        teacher: Exported folder of the model whose posteriors it learns from; empty for none.
        teacher_weight: Weight of the distance to the teacher's posteriors.
        hidden_weight: Weight of the distance to the teacher's hidden states.
        hidden_layer: After which layer, in both.
        teacher_delay: Frames by which the posteriors that it learns come after the teacher's: what it may hear first.
        inter_layer: Layer after which a second CTC loss looks in; 0 for none.
        consistency_weight: Weight of the distance between what it says to a clip disturbed in two ways (with `copies`,
            masked in two ways); 0 hears each clip once. Yao et al., CR-CTC, 2024.
        layer_decay: The learning rate of a layer as a share of that of the layer above it.
    """

    name: str
    corpus: str = "shared:train"
    dev: str = "shared:dev"
    hours: float = 0.0
    seed: int = 1
    units: Literal["characters", "bpe", "tokens"] = "characters"
    head: Literal["product", "module"] = "product"
    bpe_size: int = Field(default=128, ge=32, le=4096)
    token_limit: int = Field(default=0, ge=0)
    model: Model = Model()
    augmentation: Augmentation = Augmentation()
    init: tuple[str, ...] = ()
    copies: int = Field(default=0, ge=0)
    teacher: str = ""
    teacher_weight: float = 0.0
    teacher_delay: int = Field(default=0, ge=0)
    hidden_weight: float = 0.0
    hidden_layer: int = 4
    ctc_weight: float = 1.0
    inter_layer: int = 0
    inter_weight: float = 0.3
    consistency_weight: float = Field(default=0.0, ge=0)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    steps: int = 6000
    warm_up_steps: int = 150
    decay: float = 0.4
    """Share of the steps, at the end, over which the learning rate falls to zero."""
    learning_rate: float = 3e-4
    head_learning_rate: float = 2e-3
    weight_decay: float = 0.01
    dropout: float = 0.1
    batch_s: float = 80.0
    clip_norm: float = 1.0
    average: float = 0.998
    """Decay of the moving average of the weights; the average is what is exported."""
    threads: int = 1
    evaluate_every: int = 500
    save_every: int = 100
    precision: Literal["bf16", "fp32"] = "bf16"

    @model_validator(mode="after")
    def _limit_of_tokens(self) -> TrainingConfig:
        if self.token_limit and self.units != "tokens":
            raise ValueError('token_limit is for units = "tokens"')
        return self

    @model_validator(mode="after")
    def _copies_of_frozen_layers_alone(self) -> TrainingConfig:
        if self.copies and (not self.model.frozen_layers or self.teacher):
            raise ValueError("copies needs frozen layers, and no teacher")
        return self

    @model_validator(mode="after")
    def _module_reads_whole_clips(self) -> TrainingConfig:
        wanted = self.units == "tokens" and not self.model.streaming
        if (self.head == "module") != wanted:
            raise ValueError('head = "module" is for units = "tokens" of clips heard whole, and those want it')
        if wanted and (self.model.layers < max(READS) or self.model.frozen_layers > min(READS)):
            raise ValueError(f"the module reads layers {READS}: it wants them all, and what is frozen below them")
        if wanted and (self.inter_layer or self.teacher):
            raise ValueError("the module has neither an inner loss nor a teacher")
        return self


def load_config(path: Path) -> TrainingConfig:
    """Read a training from TOML.

    Raises:
        AmiraError: The file cannot be read, is not TOML, or says something that does not exist.
    """
    try:
        return TrainingConfig(**tomllib.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise AmiraError(f"training configuration {path} is wrong: {error}") from error
