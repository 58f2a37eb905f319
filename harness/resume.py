"""Whether a stored run can be continued: only where every sample to come is comparable with those it has."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness import fingerprint
from harness.plan import Plan
from harness.records import CaseEntry, Manifest, Utterance
from pipelines.errors import AmiraError

SHOWN = 5


def check_resumable(
    manifest: Manifest,
    plan: Plan,
    entries: Sequence[CaseEntry],
    utterances: Sequence[Utterance],
    facts: Mapping[str, Any],
    executor: str = "local",
) -> None:
    """Compare a stored run with what would be measured now.

    Raises:
        AmiraError: They differ; it names the differences.
    """
    found = [
        *_plan_differences(manifest, plan),
        *([f"the executor: {manifest.executor.name} against {executor}"] if manifest.executor.name != executor else []),
        *_case_differences(manifest.cases, entries),
        *_corpus_differences(manifest.utterances, utterances),
        *fingerprint.differences(manifest.fingerprint, facts),
    ]
    if found:
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise AmiraError(
            f"run '{manifest.run}' cannot be resumed, its samples would not be comparable with new ones "
            f"(then against now): {'; '.join(found[:SHOWN])}{more}. Undo that, or start a new run."
        )


def _plan_differences(manifest: Manifest, plan: Plan) -> Iterator[str]:
    stored = tomllib.loads(manifest.plan_toml)
    pairs = {
        "name": (manifest.plan_name, plan.name),
        "repeats": (manifest.repeats, plan.repeats),
        "warm_up": (manifest.warm_up, plan.warm_up),
        "laps": (manifest.laps, plan.laps),
        "scenario": (manifest.scenario.described(), plan.scenario.described()),
        "measures": (manifest.measures, plan.measures),
        "seed": (stored.get("seed", 0), plan.seed),
        "memory_limit_mib": (stored.get("memory_limit_mib"), plan.memory_limit_mib),
    }
    for key, (then, now) in pairs.items():
        if then != now:
            yield f"the plan's {key}: {then} against {now}"


def _case_differences(then: Sequence[CaseEntry], now: Sequence[CaseEntry]) -> Iterator[str]:
    old, new = ({entry.case.id: entry for entry in entries} for entries in (then, now))
    for name in {**old, **new}:
        if name not in new or name not in old:
            yield f"case '{name}' is only in the {'stored' if name in old else 'present'} plan"
        elif _measured(old[name]) != _measured(new[name]):
            yield f"case '{name}' has another pipeline"
        elif old[name].unavailable_reason != new[name].unavailable_reason:
            reasons = (entry.unavailable_reason or "it can run" for entry in (old[name], new[name]))
            yield f"case '{name}': {' against '.join(reasons)}"


def _measured(entry: CaseEntry) -> dict[str, Any]:
    """What decides a case's samples. A stored pipeline is of another class, so its values are compared."""
    return entry.case.pipeline.model_dump()


def _corpus_differences(then: Sequence[Utterance], now: Sequence[Utterance]) -> Iterator[str]:
    old, new = ({utterance.id: utterance for utterance in utterances} for utterances in (then, now))
    if old.keys() != new.keys():
        different = sorted(old.keys() ^ new.keys())
        yield f"the corpus: {len(old)} against {len(new)} utterances, '{different[0]}' is not in both"
        return
    changed = [name for name in old if old[name] != new[name]]
    if changed:
        yield f"the corpus: utterance '{changed[0]}' has other audio or another transcript"
    elif list(old) != list(new):
        yield "the corpus: its utterances are in another order"
