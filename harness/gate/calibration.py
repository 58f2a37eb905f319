"""The calibration as a document: from a recorded run to JSON and Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.gate.baselines import check_comparable
from harness.gate.calibrate import accuracy_table, outcome, pairs, real, speed_table
from harness.gate.config import GateConfig
from harness.gate.evidence import Evidence
from harness.gate.sides import together
from harness.store import Run
from pipelines.errors import AmiraError, NothingMeasuredError

SCHEMA_VERSION = 2


def calibration(
    recorded: Sequence[Run],
    config: GateConfig,
    *,
    simulations: int,
    seed: int = 0,
    accuracy: tuple[Run, str] | None = None,
    accuracy_times: int = 50,
) -> dict[str, Any]:
    """False alarms and power of the gate on the machine of a recorded run.

    Args:
        recorded: Runs of this checkout against itself (`amira gate calibrate` makes one), of one machine: their pairs
            are taken together.
        config: The gate's configuration.
        simulations: Gatings to play through for each row.
        seed: Of the draws.
        accuracy: A stored run with transcripts, and one of its cases, to plant word errors in.
        accuracy_times: How often for each loss.

    Raises:
        NothingMeasuredError: The run has no pairs.
        AmiraError: It has fewer than a batch of them.
    """
    names = ", ".join(run.manifest.run for run in recorded)
    for run in recorded[1:]:
        check_comparable(recorded[0].manifest.fingerprint, run.manifest.fingerprint)
    evidence = _joined(recorded)
    if not evidence:
        raise NothingMeasuredError(
            f"run '{names}' has no case that was measured on two sides. Record one: amira gate calibrate"
        )
    repeats = min(pairs(row) for row in evidence)
    if repeats < 2 * config.repeats.batch:
        raise AmiraError(
            f"run '{names}' has {repeats} pairs, a calibration needs at least two batches of "
            f"{config.repeats.batch}. Record more with --pairs, and longer with --minutes."
        )
    manifest = recorded[0].manifest
    planted = {name: dict(code["slowdown"]) for name, code in manifest.sides.items() if code.get("slowdown")}
    kept = outcome("pairs in their order", real(evidence, config))
    facts = manifest.fingerprint
    pair_s = _pair_s(recorded)
    return {
        "schema_version": SCHEMA_VERSION,
        "run": names,
        "machine": {"cpu": facts.get("cpu", {}).get("model"), "cores": facts.get("cpu", {}).get("cores")},
        "pairs": repeats,
        "pair_s": pair_s,
        "config": config.model_dump(mode="json"),
        "planted": planted,
        "real": kept,
        "simulated": [] if planted else speed_table(evidence, config, simulations, seed, pair_s),
        "accuracy_run": accuracy[0].manifest.run if accuracy else None,
        "accuracy": accuracy_table(*accuracy, config, accuracy_times, seed) if accuracy else [],
    }


def _joined(runs: Sequence[Run]) -> list[Evidence]:
    """The evidence of each case over all runs; a case that one of them could not measure is left out."""
    found: dict[str, Evidence] = {}
    for place, run in enumerate(runs):
        rows = {row.case: row for row in together(run) if row.problem is None}
        found = rows if place == 0 else {name: row.joined(rows[name]) for name, row in found.items() if name in rows}
    return list(found.values())


def _pair_s(runs: Sequence[Run]) -> float:
    """Seconds of a pair of processes, on average: both run at the same time."""
    took = [record.wall_s for run in runs for record in run.processes if record.status == "ok"]
    return sum(took) / len(took)


def markdown(found: Mapping[str, Any]) -> str:
    """The calibration's tables."""
    repeats = found["config"]["repeats"]
    lines = [
        f"Recorded on {found['machine']['cpu']}, {found['machine']['cores']} cores: {found['pairs']} pairs of fresh "
        f"processes of {found['pair_s']:.1f} s each (run `{found['run']}`). A gating takes batches of "
        f"{repeats['batch']} pairs, at most {repeats['most']}, and begins none that would end after "
        f"{repeats['budget_s'] / 60:g} minutes.",
        "",
        "| what | gatings | red | its stage named | too noisy to say | batches on average | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    batch_s = repeats["batch"] * found["pair_s"]
    real = found["real"]
    if found["planted"]:
        stages = next(iter(found["planted"].values()))
        what = ", ".join(f"{stage} really {factor - 1:.0%} slower" for stage, factor in stages.items())
    else:
        what = "no change, the pairs in their order"
    lines += [_row(what, real, batch_s), *(_row(_what(row), row, batch_s) for row in found["simulated"])]
    if found["accuracy"]:
        lines += [
            "",
            f"Words planted as wrong in the texts of run `{found['accuracy_run']}`; with a loss of 0, other words are "
            "wrong on both sides, as many on the one as on the other.",
            "",
            "| corpus | words | planted loss, points | red | too noisy to say |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {row['corpus']} | {row['words']} | {row['planted_points']:g} | {_percent(row['worse'])} "
            f"| {_percent(row['unclear'])} |"
            for row in found["accuracy"]
        ]
    return "\n".join(lines) + "\n"


def _what(row: Mapping[str, Any]) -> str:
    return f"{row['what']} by {row['slowdown']:.0%}, simulated" if row["slowdown"] else f"{row['what']}, simulated"


def _row(what: str, row: Mapping[str, Any], batch_s: float) -> str:
    batches, minutes = "–", "–"
    if row["batches"] is not None:
        batches, minutes = f"{row['batches']:.1f}", f"{row['batches'] * batch_s / 60:.1f}"
    cells = (what, str(row["gatings"]), _percent(row["red"]), _percent(row["stage_named"]), _percent(row["unclear"]))
    return f"| {' | '.join((*cells, batches, minutes))} |"


def _percent(share: Mapping[str, float] | None) -> str:
    if share is None:
        return "–"
    return f"{share['value']:.1%} ({share['low']:.1%} to {share['high']:.1%})"
