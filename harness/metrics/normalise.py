"""The one normaliser that every accuracy in the project is measured after. It treats both sides alike.

In this order:

1. Unicode NFKC (full-width letters, ligatures and the like become their plain forms), then lower case.
2. Curly and other apostrophes become `'`.
3. Titles are spelled out: `mr`, `mrs`, `dr` become `mister`, `missus`, `doctor`, with or without a dot.
4. Numbers in digits are spelled out (`harness.metrics.numbers` lists the readings); `&` becomes `and`.
5. Accents are taken off: `café` is `cafe`.
6. An apostrophe between letters stays (`don't`, `o'clock`); every other character that is not a letter becomes a space.
   So `ill-disposed` is two words, and each letter of `M.O.R.` and `M-O-R` is a word.
7. Runs of spaces become one, none at the ends.

What it leaves alone, and so counts: British against American spelling (`metres`, `meters`), fillers (`uh`), `ok`
against `okay`, and numbers that were read in another way than digits suggest.
"""

from __future__ import annotations

import re
import unicodedata

from harness.metrics.numbers import spell_out

_APOSTROPHES = re.compile("[\u2018\u2019\u201b\u02bc\u02b9\u2032\u0060\u00b4]")
_TITLES = {"mr": "mister", "mrs": "missus", "dr": "doctor"}
_TITLE = re.compile(r"\b(mr|mrs|dr)\b\.?")
_OUTER_APOSTROPHE = re.compile(r"(?<![^\W\d_])'|'(?![^\W\d_])")


def normalise(text: str) -> str:
    """The words of `text`, one space between them. Idempotent; the empty string stays empty."""
    text = unicodedata.normalize("NFKC", text).lower()
    text = _APOSTROPHES.sub("'", text)
    text = _TITLE.sub(lambda match: f"{_TITLES[match[1]]} ", text)
    text = spell_out(text.replace("&", " and "))
    letters = "".join(sign if sign.isalpha() or sign == "'" else " " for sign in _without_accents(text))
    return " ".join(_OUTER_APOSTROPHE.sub(" ", letters).split())


def _without_accents(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
