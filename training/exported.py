"""Trained weights on disk: `weights.safetensors` in half precision, `tokens.txt`, `config.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipelines.acoustic.tokens import read_symbols
from pipelines.acoustic.vocabulary import parse
from pipelines.errors import AmiraError
from pipelines.models.moonshine import WIDTH
from pipelines.models.source import TOKENIZER, verified
from pipelines.models.token_head import TOKENS as KEPT
from pipelines.paths import model_repo_dir
from training.config import Model
from training.heads import TokenHead, inner_names, outer_names
from training.network import Network
from training.pretrained import encoder_state
from training.tokens import TokenLogits, rows_of
from training.vocabulary import CharacterUnits, TokenUnits, Units

WEIGHTS, TOKENS = "weights.safetensors", "tokens.txt"
_TOP = ("layer_norm.", "head.")


def export(
    folder: Path, network: Network, units: Units, state: dict[str, Tensor], facts: dict[str, Any], over: str = ""
) -> None:
    """Write the weights that training changed, and what is needed to build the network again.

    Args:
        folder: Where to.
        network: What they are of.
        units: What it writes.
        state: The weights themselves.
        facts: For the model's card.
        over: Model in `model-repo` that the frozen layers of a streaming network come from; empty: writes them too.
    """
    config = network.config
    frozen = tuple(f"layers.{i}." for i in range(config.frozen_layers))
    frozen += ("conv", "groupnorm") if frozen else ()
    left_out = (() if config.streaming and not over else frozen) + ("stem_",)
    whole_head = isinstance(network.head, TokenHead)
    state = outer_names(state) if whole_head else state
    if isinstance(network.labels, TokenLogits):
        state = state | {"head.bias": state["head.bias"] + network.labels.presence}
    if whole_head:
        left_out += ("layer_norm.",)  # it reads the layers' outputs by a norm of its own
    kept = {
        name: value.to(torch.float16).contiguous()
        for name, value in state.items()
        if not name.startswith(left_out) and (facts["training"]["ctc_weight"] or not name.startswith(_TOP))
    }
    about = {
        **config.model_dump(),
        "chunk_frames": config.chunk_frames[0],
        "stem_mean": float(state["stem_mean"]),
        "stem_std": float(state["stem_std"]),
    }
    if over:
        about["over"] = over
    if whole_head:
        about["head"] = "module"
    if isinstance(units, TokenUnits) and isinstance(network.labels, TokenLogits):
        about["units"] = "tokens"
        kept[KEPT] = torch.tensor(units.kept, dtype=torch.int32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(kept, folder / WEIGHTS)
    write_labels(folder, units)
    (folder / "config.json").write_text(json.dumps(about | {"facts": facts}, indent=2) + "\n", "utf-8")


def write_labels(folder: Path, units: Units) -> None:
    """The labels of a model, one a line with its id."""
    (folder / TOKENS).write_text("".join(f"{label} {index}\n" for index, label in enumerate(units.labels)), "utf-8")


def load_exported(folder: Path) -> tuple[Network, dict[str, Any]]:
    """The network of an exported folder; weights that it does not hold are the package's.

    Raises:
        AmiraError: There is no such folder, or what is in it is a head and no network.
    """
    try:
        about: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    except OSError as error:
        raise AmiraError(f"there are no trained weights in {folder}: {error}. Train them first") from error
    if "layers" not in about:
        raise AmiraError(f"{folder} holds a head alone (`python -m training.head`), which its own training measures")
    fields = {name: about[name] for name in Model.model_fields if name != "chunk_frames"}
    model = Model(**fields, chunk_frames=(about["chunk_frames"],))
    own = own_state(folder)
    head: nn.Linear | TokenLogits | TokenHead = nn.Linear(WIDTH, len(read_symbols(folder / TOKENS)))
    if KEPT in own:
        kept = own[KEPT].int().tolist()
        head = TokenLogits(rows_of(kept))
        if about.get("head") == "module":
            head, own = TokenHead(head), inner_names(own)
    network = Network(model, head=head)
    load_known(network, {**encoder_state(), **own})
    return network, about


def exported_units(folder: Path) -> Units:
    """What an exported network writes.

    Raises:
        AmiraError: Pieces of words, which are kept in the folder of the training.
    """
    kind = json.loads((folder / "config.json").read_text("utf-8"))["facts"]["training"]["units"]
    if kind == "tokens":
        return TokenUnits(parse(verified(TOKENIZER).read_bytes()), own_state(folder)[KEPT].int().tolist())
    if kind != "characters":
        raise AmiraError(f"{folder} writes {kind}: only models of characters and of tokens can be measured here")
    return CharacterUnits()


def own_state(folder: Path) -> dict[str, Tensor]:
    """The weights that an exported folder holds, over those of the model that it names, float32."""
    about = json.loads((folder / "config.json").read_text("utf-8"))
    state = own_state(model_repo_dir() / about["over"]) if "over" in about else {}
    state |= {name: value.float() for name, value in load_file(folder / WEIGHTS).items()}
    if about["streaming"]:
        state |= {name: torch.tensor(about[name]) for name in ("stem_mean", "stem_std")}
    return state


def base_of(folder: Path, layers: int) -> str:
    """The model of the project that an exported folder has its stem and so many layers from; empty if it holds some."""
    about: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    return str(about.get("over", "")) if about.get("frozen_layers", 0) >= layers else ""


def load_known(network: Network, state: dict[str, Tensor]) -> list[str]:
    """Load what has the network's names and shapes; returns the names that were not found."""
    wanted = network.state_dict()
    fitting = {name: value for name, value in state.items() if name in wanted and wanted[name].shape == value.shape}
    network.load_state_dict(fitting, strict=False)
    return [name for name in wanted if name not in fitting]
