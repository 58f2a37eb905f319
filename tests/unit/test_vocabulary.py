"""The token table's parser and text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.acoustic.vocabulary import TokenTable, parse


def encode(tokens: list[bytes]) -> bytes:
    out = bytearray()
    for token in tokens:
        size = len(token)
        out += bytes([size]) if size < 128 else bytes([128 + size % 128, size // 128])
        out += token
    return bytes(out)


@given(st.lists(st.binary(max_size=600), max_size=20))
def test_reads_what_was_written(tokens: list[bytes]) -> None:
    assert parse(encode(tokens)) == tokens


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=8), st.data())
def test_a_cut_table_is_an_error_or_fewer_tokens(tokens: list[bytes], data: st.DataObject) -> None:
    whole = encode(tokens)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        found = parse(cut)
    except ValueError as error:
        assert "ends inside" in str(error)
    else:
        assert found == tokens[: len(found)]
        assert len(found) < len(tokens)


def test_text_joins_pieces_and_skips_ids_beyond_the_table() -> None:
    table = TokenTable([b"<s>", b"\xe2\x96\x81Ever", b"\xe2\x96\x81tri", b"ed", b"."])
    assert table.text([1, 2, 3, 4, 999]) == "Ever tried."
    assert table.text([]) == ""


def test_text_of_a_character_split_over_tokens() -> None:
    assert TokenTable([b"\xc3", b"\xa9"]).text([0, 1]) == "é"


@pytest.mark.parametrize("data", [b"\x05abc", b"\x81"])
def test_torn_tables_say_where(data: bytes) -> None:
    with pytest.raises(ValueError, match="token 0"):
        parse(data)
