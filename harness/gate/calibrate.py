"""How often the gate itself is wrong: false alarms and power, with intervals.

A recorded run measures this checkout against itself, pair by pair. From its pairs thousands of gatings are played
through, with the very rules of a real one: a batch draws pairs at random, and which side of a pair is the baseline is
drawn, too, so that nothing but noise is left; a pair takes the time that one took on average, and the budget is the
gate's own. A planted slowdown of one stage is added to that stage and, by its
share, to latency and CPU time. What is played is as good as the record: noise that the machine did not have while it
was recorded is not in it.

*Real comparisons* use no such draws: the recorded pairs in their order, batch after batch, as a gate would have seen
them.

A planted loss of accuracy replaces random words of what a stored run recognised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from math import log1p
from typing import Any

import numpy as np

from harness import stats
from harness.gate.accuracy import accuracy_effects
from harness.gate.config import GateConfig
from harness.gate.evidence import Effect, Evidence, Metric, Paired
from harness.gate.judge import accuracy_verdict
from harness.gate.result import Result
from harness.gate.row import POINTS
from harness.gate.sequence import Decision, decide
from harness.measured import measured_cases
from harness.scores import ALL
from harness.store import Run

SLOWDOWNS = (0.02, 0.05, 0.10)
LOSSES = (0.0, 0.005, 0.01, 0.02)
"""Of word error rate, as fractions."""
DAMAGE = "zzz"


def simulate(
    recorded: Sequence[Evidence],
    config: GateConfig,
    times: int,
    seed: int,
    planted: Mapping[str, float] | None = None,
    pair_s: float = 0.0,
) -> list[Decision]:
    """Play gatings through.

    Args:
        recorded: What this checkout measured against itself.
        config: The gate's.
        times: How many gatings.
        seed: Of the draws.
        planted: Stage to its slowdown, 0.05 for 5 %; none for a comparison of a thing with itself.
        pair_s: Seconds that a pair of processes takes.
    """
    rng = np.random.default_rng(seed)
    decisions = []
    for _ in range(times):
        clock = _Clock()
        decisions.append(decide(_player(recorded, config, rng, planted or {}, clock, pair_s), config, now=clock))
    return decisions


def real(recorded: Sequence[Evidence], config: GateConfig) -> list[Decision]:
    """Gate with the recorded pairs as they came, each pair used once, until too few are left for a batch.

    The last gating may end for want of pairs; it then says what it knew, as one does whose time is up.
    """
    left = min(pairs(evidence) for evidence in recorded)
    batch = config.repeats.batch
    decisions: list[Decision] = []
    first = 0

    def measure(names: Collection[str] | None) -> dict[str, Evidence]:
        nonlocal first
        chosen = np.arange(first, first + batch)
        first += batch
        return {
            evidence.case: _drawn(evidence, chosen, np.ones(batch), {})
            for evidence in recorded
            if names is None or evidence.case in names
        }

    while first + batch <= left:
        most = min(config.repeats.most, (left - first) // batch * batch)
        limited = config.model_copy(update={"repeats": config.repeats.model_copy(update={"most": most})})
        decisions.append(decide(measure, limited, now=_Clock()))
    return decisions


def speed_table(
    recorded: Sequence[Evidence], config: GateConfig, times: int, seed: int, pair_s: float = 0.0
) -> list[dict[str, Any]]:
    """False alarms and power: one row for no change, and one for each judged stage and slowdown."""
    rows = [_outcomes("no change", None, 0.0, simulate(recorded, config, times, seed, pair_s=pair_s))]
    stages = sorted(
        {
            metric.name
            for evidence in recorded
            for metric in evidence.effects
            if metric.kind == "stage" and evidence.shares.get(metric.name, 0) >= config.stages.least_share
        }
    )
    for stage in stages:
        for slowdown in SLOWDOWNS:
            found = simulate(recorded, config, times, seed, {stage: slowdown}, pair_s)
            rows.append(_outcomes(f"{stage} slower", stage, slowdown, found))
    return rows


def accuracy_table(run: Run, case: str, config: GateConfig, times: int, seed: int) -> list[dict[str, Any]]:
    """How often a planted loss of accuracy is caught in each corpus of a stored run.

    With a loss of 0, half a per cent of the words are replaced on both sides, at other places: other errors, not more.
    """
    texts = measured_cases(run)[case].texts()
    rng = np.random.default_rng(seed)
    words: dict[str, int] = {}
    for row in run.utterances.values():
        words[row.corpus] = words.get(row.corpus, 0) + len((row.text or "").split())
    if len(words) > 1:
        words[ALL] = sum(words.values())
    caught: Counter[tuple[str, float, str]] = Counter()
    for loss in LOSSES:
        for _ in range(times):
            both = 0.005 if loss == 0 else 0.0
            sides = [_damaged(texts, rate, rng) for rate in (both, loss or both)]
            for corpus, effect in accuracy_effects(run.utterances, sides[0], sides[1]).items():
                caught[corpus, loss, accuracy_verdict(effect, config.accuracy.points)] += 1
    return [
        {
            "corpus": corpus,
            "words": words[corpus],
            "planted_points": loss * POINTS,
            "worse": _share(caught[corpus, loss, "worse"], times),
            "unclear": _share(caught[corpus, loss, "unclear"], times),
        }
        for corpus in words
        for loss in LOSSES
    ]


class _Clock:
    """A clock that stands still but for what is played."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def _player(
    recorded: Sequence[Evidence],
    config: GateConfig,
    rng: np.random.Generator,
    planted: Mapping[str, float],
    clock: _Clock,
    pair_s: float,
) -> Callable[[Collection[str] | None], dict[str, Evidence]]:
    def measure(names: Collection[str] | None) -> dict[str, Evidence]:
        found = {}
        for evidence in recorded:
            if names is None or evidence.case in names:
                chosen = rng.integers(0, pairs(evidence), config.repeats.batch)
                signs = rng.choice([-1.0, 1.0], config.repeats.batch)
                found[evidence.case] = _drawn(evidence, chosen, signs, planted)
                clock.seconds += pair_s * config.repeats.batch
        return found

    return measure


def _drawn(evidence: Evidence, chosen: Any, signs: stats.Floats, planted: Mapping[str, float]) -> Evidence:
    """A batch of recorded pairs. All numbers of a pair stay together, for they are not independent."""
    effects: dict[Metric, Effect] = {}
    for metric, effect in evidence.effects.items():
        if isinstance(effect, Paired):
            effects[metric] = Paired(effect.effects[chosen] * signs + _planted(metric, evidence, planted))
    return replace(evidence, effects=effects)


def _planted(metric: Metric, evidence: Evidence, planted: Mapping[str, float]) -> float:
    if metric.kind in ("stage", "stage_cpu"):
        return log1p(planted.get(metric.name, 0.0))
    if metric.kind in ("latency", "throughput", "cpu"):
        return log1p(sum(evidence.shares.get(stage, 0.0) * slowdown for stage, slowdown in planted.items()))
    return 0.0


def pairs(evidence: Evidence) -> int:
    """How many pairs of processes were recorded of a case."""
    return min(len(effect.effects) for effect in evidence.effects.values() if isinstance(effect, Paired))


def _outcomes(what: str, stage: str | None, slowdown: float, decisions: Sequence[Decision]) -> dict[str, Any]:
    words = Counter(_overall(decision) for decision in decisions)
    names = {f"stage {stage}", f"stage cpu {stage}"}
    named = sum(any(names & case.worse() for case in decision.cases) for decision in decisions)
    return {
        "what": what,
        "slowdown": slowdown,
        "gatings": len(decisions),
        "red": _share(words["regression"], len(decisions)),
        "stage_named": None if stage is None else _share(named, len(decisions)),
        "unclear": _share(words["unclear"], len(decisions)),
        "batches": float(np.mean([decision.batches for decision in decisions])) if decisions else None,
    }


def outcome(what: str, decisions: Sequence[Decision]) -> dict[str, Any]:
    """The row of comparisons without a planted change."""
    return _outcomes(what, None, 0.0, decisions)


def _overall(decision: Decision) -> str:
    return Result("", "", "interleaved", decision.cases, (), "").verdict


def _share(hits: int, trials: int) -> dict[str, float] | None:
    if not trials:
        return None
    found = stats.proportion(hits, trials)
    return {"value": found.value, "low": found.low, "high": found.high, "count": hits}


def _damaged(texts: Mapping[str, str], rate: float, rng: np.random.Generator) -> dict[str, str]:
    """Texts in which each word is replaced with that probability."""
    if not rate:
        return dict(texts)
    return {
        name: " ".join(DAMAGE if hit else word for word, hit in zip(words, rng.random(len(words)) < rate, strict=True))
        for name, text in texts.items()
        for words in (text.split(),)
    }
