"""Spells out numbers written in digits, the way that they are read in English.

A recogniser may write `15` where the transcript has `fifteen`; without this the same speech would count as an
error. Digits do not tell how they were read, so there is one reading for each form, listed here.
"""

from __future__ import annotations

import re

_UNITS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (10**3, "thousand"), (100, "hundred"))
_IRREGULAR_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_CURRENCIES = {"$": ("dollar", "dollars"), "£": ("pound", "pounds"), "€": ("euro", "euros")}

_NUMBER = r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+"
_CURRENCY_AMOUNT = re.compile(rf"([$£€])\s?({_NUMBER})(?:\.([0-9][0-9])(?![0-9]))?")
_ORDINAL = re.compile(rf"\b({_NUMBER})(?:st|nd|rd|th)\b")
_DECADE = re.compile(r"\b([0-9]{4}|[0-9]0)'?s\b")
_DECIMAL = re.compile(rf"({_NUMBER})\.([0-9]+)")
_PLAIN = re.compile(_NUMBER)


def spell_out(text: str) -> str:
    """Replace every run of ASCII digits in lower-case text by words.

    - `1,234` and numbers of up to three digits are cardinals: `one thousand two hundred thirty four`.
    - Four digits from 1100 to 2099 are read as a year: `nineteen ninety`, `two thousand five`.
    - Other runs of four digits and more that end in `00` are cardinals (`5000`); the rest, and all that begin with
      a zero, are read digit by digit, as codes and telephone numbers are: `two nine three four zero`.
    - `3.14` is `three point one four`, `21st` is `twenty first`, `1990s` is `nineteen nineties`.
    - `$5` is `five dollars`, `$1.50` is `one dollar fifty`; `%` becomes `percent`.
    """
    text = text.replace("%", " percent ")
    text = _CURRENCY_AMOUNT.sub(_currency, text)
    text = _ORDINAL.sub(lambda match: f" {ordinal(_integer(match[1]))} ", text)
    text = _DECADE.sub(lambda match: f" {_plural(_read(match[1]))} ", text)
    text = _DECIMAL.sub(lambda match: f" {_read(match[1])} point {_digits(match[2])} ", text)
    return _PLAIN.sub(lambda match: f" {_read(match[0])} ", text)


def cardinal(value: int) -> str:
    """`value` (not negative) in words, without `and`: `one hundred one`. From 10**15 up it is read digit by digit."""
    if value < 20:
        return _UNITS[value]
    if value < 100:
        tens, unit = divmod(value, 10)
        return _TENS[tens] + (f" {_UNITS[unit]}" if unit else "")
    if value >= 10**15:
        return _digits(str(value))
    size, name = next(scale for scale in _SCALES if value >= scale[0])
    count, rest = divmod(value, size)
    return f"{cardinal(count)} {name}" + (f" {cardinal(rest)}" if rest else "")


def ordinal(value: int) -> str:
    """The ordinal of `value`: `twenty first`."""
    head, space, last = cardinal(value).rpartition(" ")
    if last in _IRREGULAR_ORDINALS:
        last = _IRREGULAR_ORDINALS[last]
    elif last.endswith("y"):
        last = last[:-1] + "ieth"
    else:
        last += "th"
    return head + space + last


def _read(digits: str) -> str:
    """One run of digits, by the rules of `spell_out`."""
    if "," in digits or (len(digits) <= 3 and not (digits[0] == "0" and len(digits) > 1)):
        return cardinal(_integer(digits))
    if digits[0] == "0":
        return _digits(digits)
    if len(digits) == 4 and 1100 <= int(digits) <= 2099:
        return _year(int(digits))
    return cardinal(int(digits)) if digits.endswith("00") else _digits(digits)


def _year(value: int) -> str:
    century, rest = divmod(value, 100)
    if 2000 <= value < 2010:
        return cardinal(value)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def _plural(words: str) -> str:
    return words[:-1] + "ies" if words.endswith("y") else words + "s"


def _currency(match: re.Match[str]) -> str:
    one, many = _CURRENCIES[match[1]]
    amount = _integer(match[2])
    words = f" {cardinal(amount)} {one if amount == 1 else many} "
    return words + (f"{cardinal(int(match[3]))} " if match[3] and int(match[3]) else "")


def _digits(digits: str) -> str:
    return " ".join(_UNITS[int(digit)] for digit in digits)


def _integer(digits: str) -> int:
    return int(digits.replace(",", ""))
