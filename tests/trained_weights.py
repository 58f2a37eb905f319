"""Random weights in the layout of the trained twin, for tests of the graphs and of the build."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from pipelines.models import build_ctc
from pipelines.models.recipe import make

WIDTH, INNER = 416, 1664
LABELS = ["<blk>", "<space>", "'", *"abcdefghijklmnopqrstuvwxyz"]


def upper_layers(layers: range = range(6, 8), labels: int = len(LABELS), seed: int = 0) -> dict[str, np.ndarray]:
    """What `moonshine-ctc` commits: the upper layers, the last norm and the head, float16."""
    rng = np.random.default_rng(seed)

    def matrix(outputs: int, inputs: int) -> np.ndarray:
        return (rng.standard_normal((outputs, inputs)) / np.sqrt(inputs)).astype(np.float16)

    def vector(size: int, about: float) -> np.ndarray:
        return (about + 0.1 * rng.standard_normal(size)).astype(np.float16)

    tensors = {"layer_norm.weight": vector(WIDTH, 1.0), "head.weight": matrix(labels, WIDTH)}
    tensors["head.bias"] = vector(labels, 0.0)
    for layer in layers:
        name = f"layers.{layer}"
        tensors |= {f"{name}.self_attn.{part}_proj.weight": matrix(WIDTH, WIDTH) for part in "qkvo"}
        tensors |= {f"{name}.{norm}.weight": vector(WIDTH, 1.0) for norm in NORMS}
        tensors |= {f"{name}.mlp.fc1.weight": matrix(INNER, WIDTH), f"{name}.mlp.fc1.bias": vector(INNER, 0.0)}
        tensors |= {f"{name}.mlp.fc2.weight": matrix(WIDTH, INNER), f"{name}.mlp.fc2.bias": vector(WIDTH, 0.0)}
    return tensors


def token_head(kept: range = range(300, 340), seed: int = 0) -> dict[str, np.ndarray]:
    """The head of `moonshine-ctc-tokens`, for a few of the decoder's tokens."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float16)

    tensors = {"tokens": np.array(kept, np.int32), "mix": normal(3), "scale": np.float16(0.7)}
    tensors |= {"bias": normal(len(kept)), "across.weight": normal(WIDTH, 1, 11), "across.bias": normal(WIDTH)}
    for name, outputs, inputs in (
        ("enter", WIDTH, WIDTH), ("gate", 2 * WIDTH, WIDTH), ("after", WIDTH, WIDTH), ("wide", INNER, WIDTH),
        ("narrow", WIDTH, INNER), ("units", WIDTH, WIDTH), ("blank", 1, WIDTH),
    ):  # fmt: skip
        tensors |= {f"{name}.weight": normal(outputs, inputs), f"{name}.bias": normal(outputs)}
    for index in range(3):
        tensors |= {f"norms.{index}.weight": 1 + normal(WIDTH), f"norms.{index}.bias": normal(WIDTH)}
    return {f"head.{name}": np.asarray(value) for name, value in tensors.items()}


def stream_weights(layers: int, ranks: tuple[int, int] = (0, 0), seed: int = 0) -> dict[str, np.ndarray]:
    """What a size of `stream-ctc` commits: everything, with the stem's convolutions as two factors where ranked."""
    rng = np.random.default_rng(seed + 1)

    def kernel(outputs: int, inputs: int, width: int) -> np.ndarray:
        return (rng.standard_normal((outputs, inputs, width)) / np.sqrt(inputs * width)).astype(np.float16)

    tensors = upper_layers(range(layers), seed=seed)
    tensors |= {"conv1.weight": 3 * kernel(WIDTH, 1, 127), "groupnorm.weight": np.ones(WIDTH, np.float16)}
    tensors["groupnorm.bias"] = (0.1 * rng.standard_normal(WIDTH)).astype(np.float16)
    for name, rank, inputs, outputs, width in (("conv2", ranks[0], 416, 832, 7), ("conv3", ranks[1], 832, 416, 3)):
        bias = (0.1 * rng.standard_normal(outputs)).astype(np.float16)
        if rank:
            tensors |= {f"{name}.down.weight": kernel(rank, inputs, width), f"{name}.up.bias": bias}
            tensors[f"{name}.up.weight"] = kernel(outputs, rank, 1)
        else:
            tensors |= {f"{name}.weight": kernel(outputs, inputs, width), f"{name}.bias": bias}
    return tensors


def write_own_stream(folder: Path) -> Path:
    """A model of two layers with the architecture of `stream-ctc-server`; returns its folder."""
    config = {"streaming": True, "layers": 2, "left_frames": 20, "stem_mean": 0.02, "stem_std": 0.3}
    weights = write_weights(folder / "weights" / "stream-ctc-draft", stream_weights(2), **config)
    return make(build_ctc.recipe(weights), folder / "models", lambda text: None)


NORMS = ("input_layernorm", "post_attention_layernorm")


def write_weights(folder: Path, tensors: dict[str, np.ndarray], **config: Any) -> Path:
    """Write them as `model-repo/NAME` holds them; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "weights.safetensors")
    labels = LABELS if "head.tokens" not in tensors else ["<blank>", *(f"t{each}" for each in tensors["head.tokens"])]
    (folder / "tokens.txt").write_text("".join(f"{label} {index}\n" for index, label in enumerate(labels)), "utf-8")
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder
