"""Opening a CTC model: its card says of which kind it is, and is held against its ONNX file first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field

from pipelines.acoustic.card_check import check_card, check_sense
from pipelines.acoustic.ort_any import OrtAny
from pipelines.acoustic.ort_ctc import OrtCtc
from pipelines.acoustic.ort_stream import OrtStreaming
from pipelines.acoustic.ort_stream_features import OrtFeatureStreaming
from pipelines.acoustic.sessions import SessionOptions, open_session
from pipelines.acoustic.tokens import TokenList, find_blank, read_symbols
from pipelines.contracts import AcousticModel
from pipelines.errors import AmiraError
from pipelines.models.model_card import FILE, CtcCard, ctc_card, file_of, head_file_of
from pipelines.registry import Context


class OrtOptions(SessionOptions):
    """Options of the `ort` variants.

    Attributes:
        chunk_frames: Frames of a chunk, for streaming models; `None` for what the model's card says.
    """

    chunk_frames: int | None = Field(default=None, ge=1, le=128)


def read_vocabulary(folder: Path, card: CtcCard) -> TokenList:
    """The labels of a CTC model.

    Raises:
        AmiraError: Their file is missing or broken, or has no blank.
    """
    path = folder / card.vocabulary.file
    symbols = read_symbols(path)
    blank = find_blank(symbols, card.vocabulary.blank, str(path))
    return TokenList(symbols, blank, lower_case=card.vocabulary.lower_case)


@contextmanager
def open_ctc(context: Context, precision: str, options: OrtOptions) -> Iterator[AcousticModel]:
    """The CTC model of a context in one precision, in ONNX Runtime; see `open_ctc_in`."""

    def opened(file: Path) -> Any:
        return open_session(file, context.threads, options)

    with open_ctc_in(context, precision, options.chunk_frames, opened) as model:
        yield model


@contextmanager
def open_ctc_in(
    context: Context,
    precision: str,
    chunk_frames: int | None,
    opened: Callable[[Path], Any],
    waveform_stream: Callable[..., Any] = OrtStreaming,
) -> Iterator[AcousticModel]:
    """The CTC model of a context in one precision; one with a streaming card is a `StreamingAcousticModel` too.

    Args:
        context: Says which model.
        precision: Which of its forms.
        chunk_frames: Frames of a chunk, if other than the card's.
        opened: Makes a session of a file, with the methods of ONNX Runtime's that are used here.
        waveform_stream: Makes the model of a streaming card that takes samples, from what `OrtStreaming` takes.

    Raises:
        AmiraError: A file is missing or broken; card, vocabulary and ONNX contradict each other; or chunks are asked
            for that the model does not have.
    """
    card = ctc_card(context.folder)
    vocabulary = read_vocabulary(context.folder, card)
    if card.streaming is None and chunk_frames is not None:
        raise AmiraError(f"chunk_frames is for streaming models, and the card of '{card.name}' has no [streaming]")
    check_sense(card, f"model card {context.folder / FILE}")
    file = file_of(card, context.folder, precision)
    session = opened(file)
    head_file = head_file_of(card, context.folder, precision)
    head = opened(head_file) if head_file else None
    card = check_card(card, session, len(vocabulary), file, head)
    model: OrtCtc | OrtAny | OrtStreaming | OrtFeatureStreaming
    clip, streaming = card.whole_clip(), card.streaming
    if streaming is not None and card.features is not None:
        if chunk_frames not in (None, streaming.chunk_frames):
            raise AmiraError(
                f"chunk_frames = {chunk_frames}: '{card.name}' was exported for chunks of "
                f"{streaming.chunk_frames} frames"
            )
        model = OrtFeatureStreaming(card, streaming, card.features, vocabulary, session, head, context.kernels)
    elif streaming is not None:
        model = waveform_stream(card, streaming, vocabulary, session, chunk_frames or streaming.chunk_frames)
    elif clip is not None:
        model = OrtCtc(clip, vocabulary, session, context.buffers)
    else:
        model = OrtAny(card, vocabulary, session, context.kernels)
    try:
        yield model
    finally:
        model.close()
