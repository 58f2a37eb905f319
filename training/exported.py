"""Trained weights on disk: `weights.safetensors` in half precision, `tokens.txt`, `config.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines.acoustic.tokens import read_symbols
from pipelines.errors import AmiraError
from training.config import Model
from training.network import Network
from training.pretrained import encoder_state

WEIGHTS, TOKENS = "weights.safetensors", "tokens.txt"
_TOP = ("layer_norm.", "head.")


def export(
    folder: Path, network: Network, labels: Sequence[str], state: dict[str, Tensor], facts: dict[str, Any]
) -> None:
    """Write the weights that training changed, and what is needed to build the network again."""
    config = network.config
    frozen = () if config.streaming else ("conv", "groupnorm", *(f"layers.{i}." for i in range(config.frozen_layers)))
    kept = {
        name: value.to(torch.float16).contiguous()
        for name, value in state.items()
        if not name.startswith((*frozen, "stem_")) and (facts["training"]["ctc_weight"] or not name.startswith(_TOP))
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(kept, folder / WEIGHTS)
    (folder / TOKENS).write_text("".join(f"{c} {i}\n" for i, c in enumerate(labels)), "utf-8")
    about = {
        **config.model_dump(),
        "chunk_frames": config.chunk_frames[0],
        "stem_mean": float(state["stem_mean"]),
        "stem_std": float(state["stem_std"]),
        "facts": facts,
    }
    (folder / "config.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")


def load_exported(folder: Path) -> tuple[Network, dict[str, Any]]:
    """The network of an exported folder; weights that it does not hold are the package's.

    Raises:
        AmiraError: There is no such folder.
    """
    try:
        about: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    except OSError as error:
        raise AmiraError(f"there are no trained weights in {folder}: {error}. Train them first") from error
    fields = {name: about[name] for name in Model.model_fields if name != "chunk_frames"}
    model = Model(**fields, chunk_frames=(about["chunk_frames"],))
    network = Network(model, labels=len(read_symbols(folder / TOKENS)))
    load_known(network, {**encoder_state(), **own_state(folder)})
    return network, about


def own_state(folder: Path) -> dict[str, Tensor]:
    """The weights that an exported folder itself holds, float32."""
    about = json.loads((folder / "config.json").read_text("utf-8"))
    state = {name: value.float() for name, value in load_file(folder / WEIGHTS).items()}
    if about["streaming"]:
        state |= {name: torch.tensor(about[name]) for name in ("stem_mean", "stem_std")}
    return state


def load_known(network: Network, state: dict[str, Tensor]) -> list[str]:
    """Load what has the network's names and shapes; returns the names that were not found."""
    wanted = network.state_dict()
    fitting = {name: value for name, value in state.items() if name in wanted and wanted[name].shape == value.shape}
    network.load_state_dict(fitting, strict=False)
    return [name for name in wanted if name not in fitting]
