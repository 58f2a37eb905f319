"""Opening a CTC model: its card says of which kind it is, and is held against its ONNX file first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import Field

from pipelines.acoustic.card_check import check_card
from pipelines.acoustic.ort_any import OrtAny
from pipelines.acoustic.ort_ctc import OrtCtc
from pipelines.acoustic.ort_stream import OrtStreaming
from pipelines.acoustic.sessions import SessionOptions, open_session
from pipelines.acoustic.tokens import TokenList, find_blank, read_symbols
from pipelines.contracts import AcousticModel
from pipelines.errors import AmiraError
from pipelines.models.model_card import ctc_card, file_of
from pipelines.registry import Context


class OrtOptions(SessionOptions):
    """Options of the `ort` variants.

    Attributes:
        chunk_frames: Frames of a chunk, for streaming models; `None` for what the model's card says.
    """

    chunk_frames: int | None = Field(default=None, ge=1, le=128)


@contextmanager
def open_ctc(context: Context, precision: str, options: OrtOptions) -> Iterator[AcousticModel]:
    """The CTC model of a context in one precision; one with a streaming card is a `StreamingAcousticModel` too.

    Raises:
        AmiraError: A file is missing or broken; card, vocabulary and ONNX contradict each other; or chunks are asked
            for that the model does not have.
    """
    card = ctc_card(context.folder)
    path = context.folder / card.vocabulary.file
    symbols = read_symbols(path)
    blank = find_blank(symbols, card.vocabulary.blank, str(path))
    vocabulary = TokenList(symbols, blank, lower_case=card.vocabulary.lower_case)
    if card.streaming is None and options.chunk_frames is not None:
        raise AmiraError(f"chunk_frames is for streaming models, and the card of '{card.name}' has no [streaming]")
    if card.streaming is not None and card.features is not None:
        raise AmiraError(
            f"model '{card.name}' streams features, which is not supported: streaming models take the waveform. "
            "Export it for whole clips, or with its features inside the graph"
        )
    file = file_of(card, context.folder, precision)
    session = open_session(file, context.threads, options)
    check_card(card, session, len(vocabulary), file)
    model: OrtCtc | OrtAny | OrtStreaming
    clip = card.whole_clip()
    if card.streaming is not None:
        model = OrtStreaming(
            card, card.streaming, vocabulary, session, options.chunk_frames or card.streaming.chunk_frames
        )
    elif clip is not None:
        model = OrtCtc(clip, vocabulary, session, context.buffers)
    else:
        model = OrtAny(card, vocabulary, session, context.kernels)
    try:
        yield model
    finally:
        model.close()
