"""The finding in a few plain sentences, said from the numbers and their intervals."""

from __future__ import annotations

from typing import Any

from harness.report.figures.rows import measured
from harness.report.numbers import bound, count, listing, number, percent, points, ratio, ratio_interval, share, span

Summary = dict[str, Any]


def findings(summary: Summary) -> list[str]:
    """Two to five sentences; what the ladder gained, what had no effect, how the others compare, what accuracy did."""
    if not measured(summary):
        return _nothing(summary)
    sentences = [*_ladder(summary), *_without_effect(summary), *_amdahl(summary), *_others(summary)]
    if not sentences:
        sentences = _alone(summary)
    return [*sentences, *_accuracy(summary), *_missing(summary)]


def _nothing(summary: Summary) -> list[str]:
    total = len(summary["cases"])
    failed = sum(case["status"] == "failed" for case in summary["cases"])
    if failed:
        return [f"No case could be measured: {failed} of {total} failed. The reasons stand below."]
    return [f"No case could be measured: none of the {total} can run here. The reasons stand below."]


def _ladder(summary: Summary) -> list[str]:
    rungs = [rung for rung in summary["rungs"] if rung["ratio"] is not None]
    if not rungs:
        return []
    titles = _titles(summary)
    top, sentences = rungs[-1], []
    whole = top["cumulative"]
    if whole["verdict"] == "faster":
        sentences.append(
            f"The ladder as a whole makes transcription {ratio(whole['ratio'])} times as fast "
            f"(95 % interval {ratio_interval(whole['low'], whole['high'])}), "
            f"from “{titles[whole['baseline']]}” to “{top['title']}”."
        )
    else:
        sentences.append(
            f"The top of the ladder, “{top['title']}”, {_no_gain(whole)} against “{titles[whole['baseline']]}”."
        )
    gains = [rung for rung in rungs if rung["verdict"] == "faster"]
    if gains and len(rungs) > 1:
        best = max(gains, key=lambda rung: rung["ratio"])
        rest = sorted((rung for rung in gains if rung is not best), key=lambda rung: -rung["ratio"])
        others = listing([f"“{rung['title']}” ({_spoken(rung)})" for rung in rest[:2]])
        then = f", then {others}" if others else ""
        sentences.append(f"The biggest single gain is “{best['title']}” ({_spoken(best)}){then}.")
    return sentences


def _spoken(found: dict[str, Any]) -> str:
    return f"{ratio(found['ratio'])}×, {ratio_interval(found['low'], found['high'])}"


def _no_gain(found: dict[str, Any]) -> str:
    """What can be said of a ratio that is no gain."""
    interval = ratio_interval(found["low"], found["high"])
    return {
        "slower": f"is slower: {ratio(found['ratio'])} times as fast ({interval})",
        "no effect": f"has no effect ({interval})",
    }.get(found["verdict"], f"shows no clear difference ({interval})")


def _without_effect(summary: Summary) -> list[str]:
    margin = f"±{percent(summary['no_effect_margin'], 0)} %"
    sentences = []
    for verdict, said in (
        ("no effect", f"had no effect, the whole interval within {margin}"),
        ("unclear", "could not be told from no effect"),
        ("slower", "made it slower"),
    ):
        found = [rung for rung in summary["rungs"] if rung["verdict"] == verdict]
        if found:
            names = listing([f"“{rung['title']}” ({ratio_interval(rung['low'], rung['high'])})" for rung in found])
            sentences.append(f"{names} {said}.")
    return sentences


def _amdahl(summary: dict[str, Any]) -> list[str]:
    """The best example of a stage that became faster and could not matter, because it is so little of a request."""
    found = []
    for rung in summary["rungs"]:
        for stage in (rung["attribution"] or {"stages": []})["stages"]:
            small = stage["limit"] is not None and stage["limit"] <= 1 + summary["no_effect_margin"]
            if stage["verdict"] == "faster" and small and rung["verdict"] != "faster":
                found.append((stage["ratio"], rung, stage))
    if not found:
        return []
    _, rung, stage = max(found, key=lambda item: item[0])
    return [
        f"“{rung['title']}” makes {stage['stage']} {ratio(stage['ratio'])} times as fast "
        f"({ratio_interval(stage['low'], stage['high'])}), but that is {share(stage['share'])} % of a request: "
        f"at most {bound(stage['limit'])} end to end; measured: {_spoken(rung)}."
    ]


def _others(summary: Summary) -> list[str]:
    """The cases beside the ladder against what they are compared with; the widest gaps first."""
    titles = _titles(summary)
    rungs = {case["id"] for case in summary["cases"] if case["rung"]}
    found = [row for row in summary["comparisons"] if row["metric"] == "latency" and row["candidate"] not in rungs]
    found.sort(key=lambda row: -max(row["ratio"], 1 / row["ratio"]))
    sentences = []
    for row in found[:1]:
        name, other = titles[row["candidate"]], titles[row["baseline"]]
        if row["verdict"] == "slower":
            interval = ratio_interval(1 / row["high"], 1 / row["low"])
            sentences.append(f"“{name}” takes {ratio(1 / row['ratio'])} times as long as “{other}” ({interval}).")
        elif row["verdict"] == "faster":
            interval = ratio_interval(row["low"], row["high"])
            sentences.append(f"“{name}” is {ratio(row['ratio'])} times as fast as “{other}” ({interval}).")
        else:
            sentences.append(f"“{name}” {_no_gain(row)} against “{other}”.")
    return sentences


def _alone(summary: Summary) -> list[str]:
    cases = sorted(measured(summary), key=lambda case: float(case["rtf"]))
    best, rate = cases[0], cases[0]["rtf_interval"]
    spent = f"{number(best['rtf'])} s of processing for a second of audio ({ratio_interval(rate['low'], rate['high'])})"
    if len(cases) == 1:
        return [f"“{best['title']}” took {spent}; this run has no other case to compare it with."]
    return [f"Of {count(len(cases), 'case')}, “{best['title']}” spent least: {spent}. The plan compares none of them."]


def _accuracy(summary: Summary) -> list[str]:
    """What accuracy did: every difference that the interval can show, else that none can be shown."""
    scored = [case for case in measured(summary) if case["wer"]]
    if not scored:
        return ["Accuracy is unknown: no utterance has a reference transcript."]
    titles = _titles(summary)
    sentences, seen = [], []
    for case in reversed(scored):
        for corpus, found in case["wer_difference"].items():
            if found["low"] is not None and (found["low"] > 0 or found["high"] < 0):
                word = "raised" if found["value"] > 0 else "lowered"
                sentences.append(
                    f"“{case['title']}” {word} the word error rate on {corpus} by {points(abs(found['value']))[1:]} "
                    f"points against “{titles[found['baseline']]}” "
                    f"({span(found['low'], found['high'], points)})."
                )
            elif found["value"] != 0:
                seen.append((case, corpus, found))
    rates = _rates(scored)
    if not sentences and not seen:
        if len(scored) > 1 and all(case["wer"] == scored[0]["wer"] for case in scored):
            return [f"Accuracy did not change: {rates}."]
        return [f"On accuracy: {rates}."]
    if seen:
        widest = max(seen, key=lambda item: abs(item[2]["value"]))
        case, corpus, found = widest
        sentences.append(
            f"“{case['title']}” moved the word error rate on {corpus} by {points(found['value'])} points "
            f"({span(found['low'], found['high'], points)}), which this much speech cannot tell from none."
        )
    return sentences[:2]


def _rates(scored: list[dict[str, Any]]) -> str:
    parts = []
    for corpus in scored[0]["wer"]:
        values = [case["wer"][corpus]["value"] for case in scored if corpus in case["wer"]]
        low, high = percent(min(values)), percent(max(values))
        every = " for every case" if len(values) > 1 else ""
        parts.append(f"{low} % on {corpus}{every}" if low == high else f"{low} to {high} % on {corpus}")
    return f"the word error rate is {listing(parts)}"


def _missing(summary: Summary) -> list[str]:
    missing = [case for case in summary["cases"] if case["status"] != "ok"]
    if not missing:
        return []
    names = listing([f"“{case['title']}”" for case in missing], 3)
    verb = "was" if len(missing) == 1 else "were"
    return [f"{names} {verb} not measured; why, and what to do, stands below."]


def _titles(summary: Summary) -> dict[str, str]:
    return {case["id"]: case["title"] for case in summary["cases"]}
