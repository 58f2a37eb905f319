"""What one session wants of the recogniser that all share: words to prefer, or a text that is going to be read."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.contracts import BiasedDecoder, Decoder, ExpectingDecoder
from pipelines.errors import AmiraError


@dataclass(frozen=True, slots=True)
class Wishes:
    """See the module.

    Attributes:
        hot_words: Words to hear more readily; of a phrase each word.
        expected_text: What is going to be read; `None` for anything.
    """

    hot_words: tuple[str, ...] = ()
    expected_text: str | None = None

    def __bool__(self) -> bool:
        return bool(self.hot_words) or self.expected_text is not None


def decoder_for(decoder: Decoder, wishes: Wishes) -> Decoder:
    """A decoder for one session; it shares what it can with that of the others. May take a second: graphs are built.

    Raises:
        AmiraError: The decoder cannot do it, or not with these words.
    """
    if wishes.hot_words and wishes.expected_text is not None:
        raise AmiraError("a session has hot words or an expected text, not both: leave one of them out")
    if wishes.expected_text is not None:
        if not isinstance(decoder, ExpectingDecoder):
            raise AmiraError(f"{UNABLE['expected_text']}. Leave expected_text out")
        return decoder.expecting(wishes.expected_text)
    if wishes.hot_words:
        if not isinstance(decoder, BiasedDecoder):
            raise AmiraError(f"{UNABLE['hot_words']}. Leave hot_words out")
        return decoder.preferring([word for phrase in wishes.hot_words for word in phrase.split()])
    return decoder


UNABLE = {
    "hot_words": "the decoder of this pipeline cannot prefer words: a decoding graph can (decoder/wfst)",
    "expected_text": "the decoder of this pipeline cannot follow a text: decoder/reading can",
}


def unable(wishes: Wishes, what: str) -> AmiraError:
    """A part of the pipeline takes no wishes at all."""
    names = [name for name in ("hot_words", "expected_text") if getattr(wishes, name)]
    return AmiraError(f"{what} of this server cannot use {' and '.join(names)}. Leave it out")
