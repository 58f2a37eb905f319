"""What `amira models` shows of models: the built ones, and folders of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.models import card, model_card


def entries(models_dir: Path, repo_dir: Path) -> list[dict[str, Any]]:
    """One entry for each built model, then for each folder of `repo_dir` that has a card of its own."""
    built = sorted(path.parent for path in models_dir.glob(f"*/{card.CARD}"))
    own = sorted(path.parent for path in repo_dir.glob(f"*/{model_card.FILE}"))
    return [entry(folder) for folder in (*built, *own)]


def entry(folder: Path) -> dict[str, Any]:
    """What is known of a model without loading it."""
    made = card.read(folder)
    if made is not None:
        keys = ("summary", "package", "version", "licence", "sources", "files")
        return {"name": made["name"], "family": model_card.family(folder), **{key: made[key] for key in keys}}
    family = model_card.family(folder)
    files = {
        path.name: {"what": "", "bytes": path.stat().st_size} for path in sorted(folder.iterdir()) if path.is_file()
    }
    about = {"name": folder.name, "summary": "", "licence": ""}
    if family == "ctc":
        own = model_card.ctc_card(folder)
        about = {"name": own.name, "summary": own.summary, "licence": own.licence}
    return {**about, "family": family, "package": None, "version": None, "sources": {}, "files": files}


def inspect(folder: Path) -> dict[str, Any]:
    """What a model is made of: its entry, and for a CTC model its card and the tensors of each of its files.

    Raises:
        AmiraError: There is no such model, or its card contradicts one of its files.
    """
    found = entry(folder)
    if found["family"] != "ctc":
        return found
    from pipelines.acoustic.card_check import check_card, check_sense
    from pipelines.acoustic.sessions import open_session
    from pipelines.acoustic.tokens import find_blank, read_symbols

    own = model_card.ctc_card(folder)
    vocabulary = folder / own.vocabulary.file
    symbols = read_symbols(vocabulary)
    check_sense(own, f"model card {folder / model_card.FILE}")
    forms = {}
    for precision in own.files:
        path = model_card.file_of(own, folder, precision)
        session = open_session(path, 1)
        head = model_card.head_file_of(own, folder, precision)
        check_card(own, session, len(symbols), path, open_session(head, 1) if head else None)
        forms[precision] = {
            "file": path.name,
            "bytes": path.stat().st_size,
            "inputs": {each.name: [each.type, *each.shape] for each in session.get_inputs()},
            "outputs": {each.name: [each.type, *each.shape] for each in session.get_outputs()},
        }
    blank = find_blank(symbols, own.vocabulary.blank, str(vocabulary))
    return found | {
        "card": own.model_dump(mode="json"),
        "labels": {"count": len(symbols), "blank": blank, "first": symbols[:8]},
        "forms": forms,
    }
