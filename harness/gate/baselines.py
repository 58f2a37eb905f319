"""Stored baselines, one for each machine: runs that are committed under `ci/baselines/`."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import fingerprint
from harness.recorder import PARQUET
from harness.store import MANIFEST, PROCESSES, SAMPLES, Run
from pipelines.errors import AmiraError

AUTO = "auto"
OURS = ("code.", "models.")
"""What a candidate may change: its code, and the models that its code builds."""
SHOWN = 4


def folder_of(root: Path, facts: Mapping[str, Any], plan: str) -> Path:
    """Where the baseline of a plan on a machine lies."""
    return root / key(facts) / plan


def key(facts: Mapping[str, Any]) -> str:
    """A short name for everything but the code: runs with the same one may be compared."""
    kept = {name: value for name, value in facts.items() if name not in ("code", "models", "memory_gib", "synthetic")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def save(run: Run, root: Path) -> Path:
    """Keep a run as the baseline of its plan on its machine; returns where.

    Raises:
        AmiraError: The run is not complete, or cannot be written there.
    """
    if run.manifest.status != "complete":
        raise AmiraError(
            f"run '{run.manifest.run}' is {run.manifest.status}: a baseline must be complete. "
            f"Go on with it: amira bench PLAN --resume {run.manifest.run}"
        )
    folder = folder_of(root, run.manifest.fingerprint, run.manifest.plan_name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (MANIFEST, SAMPLES, PROCESSES):
            shutil.copyfile(run.path / name, folder / name)
        (folder / PARQUET).unlink(missing_ok=True)
    except OSError as error:
        raise AmiraError(f"cannot write the baseline to '{folder}': {error.strerror or error}.") from error
    return folder


def find(root: Path, facts: Mapping[str, Any], plan: str) -> Path:
    """The baseline of a plan on this machine.

    Raises:
        AmiraError: There is none; it says which machines have one.
    """
    folder = folder_of(root, facts, plan)
    if (folder / MANIFEST).is_file():
        return folder
    have = sorted(path.parent.parent.name for path in root.glob(f"*/{plan}/{MANIFEST}"))
    raise AmiraError(
        f"plan '{plan}' has no baseline for this machine (fingerprint {key(facts)}); "
        f"have: {', '.join(have) or 'none'}. Make one: amira bench {plan}, then amira gate save latest. "
        "Or compare with a commit: amira gate --against main"
    )


def check_comparable(baseline: Mapping[str, Any], candidate: Mapping[str, Any]) -> None:
    """Refuse two fingerprints that differ in more than code and models.

    Raises:
        AmiraError: They do; it names the differences.
    """
    found = differences(baseline, candidate)
    if found:
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise AmiraError(
            f"the fingerprints differ, so times cannot be compared (baseline against candidate): "
            f"{'; '.join(found[:SHOWN])}{more}. Measure both on one machine: amira gate --against COMMIT"
        )


def differences(baseline: Mapping[str, Any], candidate: Mapping[str, Any]) -> list[str]:
    """What makes times incomparable, one readable line each."""
    found = fingerprint.differences(baseline, candidate, same_code=False)
    return [line for line in found if not line.startswith(OURS)]
