"""Lexicon, grammar and CTC topology as transducers, and their composition.

Labels: input labels of everything over tokens are token id + 1, because OpenFst keeps 0 for epsilon; disambiguation
symbols follow the tokens. Output labels are word ids. The recipe is Kaldi's with spellings in place of phones:
`HLG = H o min(det(L o G))`, all in the tropical semiring.

Mohri, Pereira, Riley: Speech recognition with weighted finite-state transducers (2008).
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import AmiraError
from pipelines.graphs.tokens import TokenSet

BACKOFF = "#0"
"""The word that back-off arcs carry while graphs are composed."""
PAIRS_OF = 1_000
"""Tokens up to which H has an arc for each pair of them."""
_ARPA_TO_FST = """
import sys, kaldilm
arpa, fst, words, backoff = sys.argv[1:]
kaldilm.arpa2fst(
    input_arpa=arpa, output_fst=fst, read_symbol_table=words, disambig_symbol=backoff, max_arpa_warnings=0
)
"""


@dataclass(frozen=True, slots=True)
class Spelling:
    """A word of the lexicon: its output label, its tokens, and a symbol to tell it from words spelled alike.

    `bonus` is added to the log-probability of every path for each time that the word is on it.
    """

    word: int
    tokens: tuple[int, ...]
    disambiguation: int = 0
    bonus: float = 0.0


def disambiguated(
    entries: Iterable[tuple[int, tuple[int, ...]]], *, prefixes: bool, bonuses: Mapping[int, float] | None = None
) -> list[Spelling]:
    """Number the words that share a spelling, so that a lexicon stays determinizable.

    Args:
        entries: Output label and tokens of each spelling.
        prefixes: Also those whose spelling begins another one; not needed where a separator ends every word.
        bonuses: What to add to the log-probability for each word, by output label; 0 for the others.
    """
    listed = list(entries)
    times = Counter(tokens for _, tokens in listed)
    begins = {tokens[:size] for _, tokens in listed for size in range(1, len(tokens))} if prefixes else set()
    used: Counter[tuple[int, ...]] = Counter()
    spellings = []
    for word, tokens in listed:
        number = 0
        if times[tokens] > 1 or tokens in begins:
            used[tokens] += 1
            number = used[tokens]
        spellings.append(Spelling(word, tokens, number, (bonuses or {}).get(word, 0.0)))
    return spellings


def lexicon_fst(spellings: Sequence[Spelling], tokens: int, separator: int | None, backoff_word: int) -> Any:
    """L: any sequence of words, by its tokens.

    With a separator token, one stands between any two words, and may stand before the first and after the last.

    Args:
        spellings: The words.
        tokens: Size of the token table.
        separator: The token between words, if they have one.
        backoff_word: Output label of `BACKOFF`.
    """
    if not spellings:
        raise AmiraError("the graph has no words: the model's tokens spell none of them")
    base = tokens + 1  # label of #0; #1, #2... follow
    start, between, end, last = 0, 1, 2, 3
    lines = [f"{start} {between} 0 0", f"{between} {between} {base} {backoff_word}", str(between)]
    if separator is None:
        lines.append(f"{end} {between} 0 0")
    else:
        lines += [f"{start} {between} {separator + 1} 0", f"{end} {between} {separator + 1} 0"]
        lines += [f"{end} {last} 0 0", f"{last} {last} {base} {backoff_word}", str(last)]
    state = 4
    for spelling in spellings:
        labels = [token + 1 for token in spelling.tokens]
        if spelling.disambiguation:
            labels.append(base + spelling.disambiguation)
        here = between
        for index, label in enumerate(labels):
            there = end if index == len(labels) - 1 else state
            output, weight = (spelling.word, -spelling.bonus) if index == 0 else (0, 0.0)
            lines.append(f"{here} {there} {label} {output} {weight:.6g}")
            here = there
            state += there != end
    return _compiled(lines)


def ctc_fst(tokens: TokenSet, disambiguation: int, used: Collection[int] | None = None) -> Any:
    """H: frame labels to tokens. Repeats collapse, blanks vanish, and a token twice needs a blank between.

    Of more than `PAIRS_OF` tokens an arc for each pair would fill the memory. Each is then left by an arc without a
    label, to where any may follow, and a token may follow itself without a blank: what its frames say once or twice is
    left to the grammar. (k2 calls this topology `modified`.)

    Args:
        tokens: The token table.
        disambiguation: How many disambiguation symbols the other side has: H makes them out of nothing.
        used: The tokens that the other side has; all of them if not given.
    """
    blank = tokens.blank
    chosen = [token for token in (range(len(tokens)) if used is None else sorted(used)) if token != blank]
    states = {token: state for state, token in enumerate(chosen, 1)}
    free = 0  # at the start and behind a blank
    lines = [f"{free} {free} {blank + 1} 0"]
    lines += [f"{free} {state} {token + 1} {token + 1}" for token, state in states.items()]
    for token, state in states.items():
        lines.append(f"{state} {state} {token + 1} 0")
        if len(chosen) > PAIRS_OF:
            lines.append(f"{state} {free} 0 0")
            continue
        lines.append(f"{state} {free} {blank + 1} 0")
        lines += [f"{state} {there} {other + 1} {other + 1}" for other, there in states.items() if other != token]
        lines += [f"{state} {state} 0 {len(tokens) + 1 + number}" for number in range(disambiguation)]
        lines.append(str(state))
    lines += [f"{free} {free} 0 {len(tokens) + 1 + number}" for number in range(disambiguation)]
    lines.append(str(free))
    return _compiled(lines)


def grammar_fst(arpa: Path, words_file: Path) -> Any:
    """G: an ARPA model as an acceptor over word ids; n-grams with words that are not in `words_file` are left out.

    Raises:
        AmiraError: kaldilm does not take the file.
    """
    import kaldifst

    binary = arpa.with_suffix(".fst")
    # A process of its own: kaldilm ends the process that it runs in when it does not like its input.
    command = [sys.executable, "-c", _ARPA_TO_FST, str(arpa), str(binary), str(words_file), BACKOFF]
    done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    if done.returncode or not binary.is_file():
        said = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        raise AmiraError(f"kaldilm cannot make a grammar of the language model: {''.join(said) or done.returncode}")
    try:
        return kaldifst.StdVectorFst.read(str(binary))
    finally:
        binary.unlink()


def compose(tokens: TokenSet, spellings: Sequence[Spelling], lexicon: Any, grammar: Any | None) -> Any:
    """HLG, or HL where there is no grammar.

    Args:
        tokens: The token table.
        spellings: The words of the lexicon.
        lexicon: `lexicon_fst` of them.
        grammar: An acceptor over word ids whose back-off arcs carry `BACKOFF`, or `None`.

    Raises:
        AmiraError: Nothing is left: lexicon and grammar have no word in common.
    """
    import kaldifst

    words = lexicon
    if grammar is not None:
        kaldifst.arcsort(lexicon, "olabel")
        kaldifst.arcsort(grammar, "ilabel")
        words = kaldifst.compose(lexicon, grammar)
    kaldifst.determinize_star(words, use_log=False)
    kaldifst.minimize_encoded(words)
    kaldifst.arcsort(words, "ilabel")
    symbols = 1 + max((spelling.disambiguation for spelling in spellings), default=0)
    used = {token for spelling in spellings for token in spelling.tokens}
    if tokens.separator is not None:
        used.add(tokens.separator)
    topology = ctc_fst(tokens, symbols, used)
    kaldifst.arcsort(topology, "olabel")
    graph = kaldifst.compose(topology, words)
    if graph.start < 0:
        raise AmiraError("the graph is empty: the language model has no word in common with the lexicon")
    kaldifst.arcsort(graph, "ilabel")
    return graph


def _compiled(lines: Sequence[str]) -> Any:
    import kaldifst

    return kaldifst.compile("\n".join(lines) + "\n")
