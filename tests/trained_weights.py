"""Random weights in the layout of the trained twin, for tests of the graphs and of the build."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

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


NORMS = ("input_layernorm", "post_attention_layernorm")


def write_weights(folder: Path, tensors: dict[str, np.ndarray]) -> Path:
    """Write them as `model-repo/NAME` holds them; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "weights.safetensors")
    (folder / "tokens.txt").write_text("".join(f"{label} {index}\n" for index, label in enumerate(LABELS)), "utf-8")
    return folder
