"""What a ledger says: a sentence for each change, and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def findings(effects: Sequence[Mapping[str, Any]], together: Mapping[str, Any] | None) -> list[str]:
    """What the ledger says, a sentence for each change; pairs only where they clearly help or hinder each other."""
    found = []
    for row in effects:
        name = " or ".join([row["term"], *row["or"]])
        span = "no interval" if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}"
        if row["kind"] == "main":
            sentence = MAIN[row["verdict"]].format(name=name, ratio=f"{row['ratio']:.2f}", span=span)
            if row["verdict"] == "unclear" and row["cpu"]["verdict"] != "unclear":
                sentence += f" CPU time, which a busy machine disturbs less: {cell(row['cpu'])}."
            found.append(sentence)
        elif row["verdict"] in PAIRS:
            found.append(PAIRS[row["verdict"]].format(name=name, ratio=f"{row['ratio']:.2f}", span=span))
    if together and together["promised"]["low"] is not None:
        measured, promised = (
            f"{part['ratio']:.2f} ({part['low']:.2f} to {part['high']:.2f})"
            for part in (together["measured"], together["promised"])
        )
        found.append(f"All changes together are {measured} times as fast; one by one they promise {promised}.")
    return found


MAIN = {
    "faster": "{name} is faster: {ratio} times as fast on average over the other settings ({span}).",
    "harmful": "{name} is harmful: {ratio} times as fast on average over the other settings ({span}).",
    "no effect": "{name} has no effect ({span}).",
    "unclear": "{name} cannot be told from no effect ({span}): more repeats would be needed.",
}
PAIRS = {
    "faster": "{name} help each other: {ratio} times as fast as apart ({span}).",
    "harmful": "{name} hinder each other: {ratio} times as fast as apart ({span}).",
}


def markdown(found: dict[str, Any]) -> str:
    """The ledger's tables."""
    stages = list(found["effects"][0]["stages"]) if found["effects"] else []
    lines = [*(f"- {sentence}" for sentence in found["findings"]), ""]
    lines += [f"| change | end to end | CPU time | {' | '.join(stages)} |", f"|---|---|---|{'---|' * len(stages)}"]
    for row in found["effects"]:
        kind = row["term"] if row["kind"] == "main" else f"{row['term']}, more than each alone"
        cells = [cell(row), cell(row["cpu"]), *(cell(row["stages"][stage]) for stage in stages)]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    lines += ["", "| change | the stages promise, by their shares | measured | measured over promised |"]
    lines += ["|---|---|---|---|"]
    for row in found["effects"]:
        if row["amdahl"]:
            sums = row["amdahl"]
            gap = cell(sums["measured_over_promised"], word=False)
            said = "they add up" if sums["holds"] else "they do not add up"
            lines.append(f"| {row['term']} | {cell(sums['promised'], word=False)} | {cell(row)} | {gap}: {said} |")
    lines += [
        f"\nNot to be told apart in this plan: {row['term']} and {', '.join(row['with']) or 'the mean'}."
        for row in found["aliased"]
    ]
    money = found["currency"]
    lines += ["", f"| case | CPU seconds an hour of audio |{f' {money} an hour of audio |' if money else ''}"]
    lines += [f"|---|---|{'---|' if money else ''}"]
    for row in found["costs"]:
        cpu, price = row["cpu_s_per_audio_hour"], row["money_per_audio_hour"]
        cost = f"{cpu['value']:.1f} ({cpu['low']:.1f} to {cpu['high']:.1f})"
        if price:
            cost += f" | {price['value']:.5f} ({price['low']:.5f} to {price['high']:.5f})"
        lines.append(f"| {row['title']} | {cost} |")
    return "\n".join(lines) + "\n"


def cell(row: Mapping[str, Any], *, word: bool = True) -> str:
    """A ratio with its interval and, if wanted, its verdict."""
    span = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
    return f"{row['ratio']:.3f}{span}{' ' + row['verdict'] if word else ''}"
