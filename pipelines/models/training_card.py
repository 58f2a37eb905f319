"""What a model's card says of its training: data and licences, recipe, and how many words it gets wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DATA = {
    "speechocean762": "read by learners of English, Mandarin speakers, half of them children; free for any use",
    "librispeech": "audiobooks; CC BY 4.0",
    "commonvoice-v1": "short read sentences in many accents, home microphones; CC0",
    "an4": "spelled words, numbers and addresses; Carnegie Mellon University's permissive licence",
    "ljspeech": "one reader of non-fiction; public domain",
}
"""The corpora of `shared:train`, what they are, and their licences."""
SHARED = "shared:train"
MANY = 50.0
"""Per cent of words wrong from which on a model is no use for that speech without help."""
FEW = 10.0
UNITS = {"tokens": "the tokens of the package's decoder"}
UNKNOWN = "How these weights were trained is not recorded beside them."


def section(facts: Mapping[str, Any] | None) -> str:
    """Markdown about a training.

    Args:
        facts: `facts` of a weights folder's `config.json`; `None` where it has none.
    """
    if facts is None:
        return UNKNOWN
    training = facts["training"]
    start = ", ".join(f"`{name}`" for name in training["init"]) or "the package's encoder"
    teacher = f"; teacher `{training['teacher']}`" if training["teacher"] else ""
    kind = training.get("units")
    units = f"{training['bpe_size']} pieces of words" if kind == "bpe" else UNITS.get(kind, "characters")
    if limit := training.get("token_limit"):
        units = f"the first {limit} of {units}"
    whole = kind != "tokens" or "model" in training  # the head alone has no network of its own
    command = "python -m training" if whole else "python -m training.head --tokens"
    lines = [
        f"- Data: {facts['hours']:g} h of English speech{_heard(training['corpus'], facts.get('speech', {}))}",
        f"- Recipe: {facts['step']:,} steps of {training['batch_s']:g} s, seed {training['seed']}, {units}, from "
        f"{start}{teacher}. Every setting is in `config.json` of the weights; `{command}` repeats it, and "
        "`experiments/` says why.",
        f"- Development speech: `{training['dev']}`, apart from the training's, with speakers of its own where "
        "they are known.",
        "",
        "| development corpus | words wrong, % | clips answered with nothing |",
        "|---|---:|---:|",
    ]
    rates = _rates(facts)
    lines += [f"| {name} | {rate:.1f} | {facts['wer'].get(f'{name} empty', 0):g} |" for name, rate in rates.items()]
    lines += [
        "",
        "Read greedily, without a language model, on the sample of each corpus that the training watched; whole tables "
        "with intervals, ages and noise are in `experiments/014-accuracy`.",
    ]
    return "\n".join(lines)


def verdicts(facts: Mapping[str, Any] | None) -> list[str]:
    """What the error rates say a model is good and bad at, one sentence each."""
    rates = _rates(facts) if facts is not None else {}
    if not rates:
        return ["How many words it gets wrong was not measured when it was trained."]
    best, worst = min(rates, key=lambda name: rates[name]), max(rates, key=lambda name: rates[name])
    found = [f"Best at {_of(best)} ({rates[best]:.1f} % of the words wrong)."]
    if worst != best:
        found.append(f"Worst at {_of(worst)} ({rates[worst]:.1f} %).")
    if useless := [name for name, rate in rates.items() if rate >= MANY]:
        found.append(f"Not to be used alone for {', '.join(useless)}: it gets half of the words wrong or more.")
    if fair := [name for name, rate in rates.items() if FEW < rate < MANY]:
        found.append(
            f"Its raw text is not to be shown to readers of {', '.join(fair)}: decode it with a language model or an "
            "expected text, or have the encoder-decoder correct it."
        )
    return found


def _rates(facts: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(rate) for name, rate in facts["wer"].items() if not name.endswith(" empty")}


def _of(corpus: str) -> str:
    return f"speech as of {corpus}" + (f", {DATA[corpus].partition(';')[0]}" if corpus in DATA else "")


def _heard(corpus: str, hours: Mapping[str, float]) -> str:
    names = list(hours) or (list(DATA) if corpus == SHARED else [])
    if not names:
        return f" (`{corpus}`)."
    parts = [
        f"\n  - {name}{f', {hours[name]:g} h' if name in hours else ''}: {DATA.get(name, 'licence not recorded')}"
        for name in names
    ]
    return " (`" + corpus + "`):" + "".join(parts)
