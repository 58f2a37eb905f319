"""`amira env`: the fingerprint that runs are compared by."""

from __future__ import annotations

from harness.output import Json, print_json, print_table


def env(json: Json = False) -> None:
    """Show the fingerprint of this machine and checkout: what a run stores, and what must agree for a comparison."""
    from harness.fingerprint import fingerprint
    from pipelines.paths import models_dir

    folder = models_dir()
    names = sorted(path.parent.name for path in folder.glob("*/card.json"))
    found = fingerprint(folder, names)
    if json:
        print_json(found)
        return
    print_table("", ("what", "value"), _flat(found))


def _flat(value: dict[str, object], prefix: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for key, item in value.items():
        if isinstance(item, dict):
            rows += _flat(item, f"{prefix}{key}.")
        elif isinstance(item, list | tuple):
            rows.append((prefix + key, " ".join(map(str, item))))
        else:
            rows.append((prefix + key, item))
    return rows
