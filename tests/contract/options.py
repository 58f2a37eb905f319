"""Options that a variant cannot be opened without, for the contract suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.registry import Variant
from tests.small_ctc import write_small_ctc
from tests.synthetic_ctc import small_graph


def needed_options(variant: type[Variant], folder: Path) -> dict[str, Any]:
    """A value for every option that has no default: whoever wants a graph or a second model gets a small one."""
    makers = {
        "graph": lambda: str(small_graph(folder / "graphs").path),
        "draft_model": lambda: str(write_small_ctc(folder / "draft")),
    }
    required = [name for name, field in variant.options.model_fields.items() if field.is_required()]
    return {name: makers[name]() for name in required}
