"""`acoustic/ort@fp32` and `@int8`: our own graphs in ONNX Runtime, bound to buffers that are leased once per clip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from pipelines.acoustic.moonshine import MoonshineAed
from pipelines.acoustic.open_ctc import OrtOptions, open_ctc
from pipelines.acoustic.sessions import SessionOptions, bind_input, bind_output, open_session
from pipelines.contracts import AcousticModel, Encoded, EncoderDecoderModel, Float32, Int64
from pipelines.errors import AmiraError
from pipelines.models.model_card import family
from pipelines.models.moonshine import HEAD_WIDTH, HEADS, LAYERS, VOCABULARY, WIDTH
from pipelines.registry import Context, Variant

MAX_STEP_TOKENS = 16
"""Tokens that one step takes at most; the logits buffer is sized for it."""
_KINDS = ("key", "value")


@dataclass(slots=True)
class _State:
    """A clip's caches: `caches[length parity]` is read by a step, the other one is written."""

    binding: Any
    caches: Float32
    """(2, layers * 2, 8 * max_tokens * 52): ping and pong of every self-attention key and value."""
    logits: Float32
    max_tokens: int
    ids: Int64 = field(default_factory=lambda: np.zeros((1, MAX_STEP_TOKENS), np.int64))
    length: int = 0
    turn: int = 0


class OrtAed(MoonshineAed):
    """Moonshine with our decoder graphs (`pipelines.models.decoder_graph`)."""

    max_step_tokens = MAX_STEP_TOKENS

    def __init__(
        self,
        context: Context,
        precision: str,
        step: str,
        options: SessionOptions,
        encoder: bool = True,
        cross: str | None = None,
    ) -> None:
        """Open the sessions; without `encoder`, it runs elsewhere; `cross` is the decoder's precision if another."""
        folder = context.folder
        super().__init__(context.buffers, folder / "tokenizer.bin")
        names = (*([f"encoder.{precision}"] if encoder else []), f"cross.{cross or precision}", step)
        *self._encoders, self._cross, self._step = (
            open_session(folder / f"{name}.onnx", context.threads, options) for name in names
        )

    def _encode_impl(self, samples: Float32, hidden: Float32) -> None:
        [encoder] = self._encoders
        binding = encoder.io_binding()
        bind_input(binding, "input_values", samples)
        bind_output(binding, "last_hidden_state", hidden)
        encoder.run_with_iobinding(binding)

    @contextmanager
    def open(self, encoded: Encoded, max_tokens: int) -> Iterator[_State]:
        """See `pipelines.contracts.EncoderDecoderModel.open`."""
        count = encoded.hidden.shape[1]
        cache = HEADS * max_tokens * HEAD_WIDTH
        lease = self._buffers.lease
        with (
            lease((2 * LAYERS, count * WIDTH), np.float32) as cross,
            lease((2, 2 * LAYERS, cache), np.float32) as caches,
            lease((1, MAX_STEP_TOKENS, VOCABULARY), np.float32) as logits,
        ):
            state = _State(self._step.io_binding(), caches, logits, max_tokens)  # type: ignore[arg-type]
            self._cross_attention(encoded.hidden, cross, state.binding)  # type: ignore[arg-type]
            yield state

    def _cross_attention(self, hidden: Float32, cross: Float32, step: Any) -> None:
        """Fill the cross-attention keys and values and bind them to every step that follows."""
        count = hidden.shape[1]
        shapes = {"key": (1, HEADS, HEAD_WIDTH, count), "value": (1, HEADS, count, HEAD_WIDTH)}
        binding = self._cross.io_binding()
        bind_input(binding, "hidden", hidden)
        for index in range(2 * LAYERS):
            layer, kind = index // 2, _KINDS[index % 2]
            view = cross[index].reshape(shapes[kind])
            bind_output(binding, f"cross_{kind}.{layer}", view)
            bind_input(step, f"cross_{kind}.{layer}", view)
        self._cross.run_with_iobinding(binding)

    def step(self, state: _State, tokens: Sequence[int]) -> Float32:
        """See `pipelines.contracts.EncoderDecoderModel.step`.

        Raises:
            ValueError: No tokens, or more than the state has room for.
        """
        past, count = state.length, len(tokens)
        if not 1 <= count <= MAX_STEP_TOKENS or past + count > state.max_tokens:
            raise ValueError(
                f"a step takes 1 to {MAX_STEP_TOKENS} tokens and this state holds {state.max_tokens}, "
                f"of which {past} are used; got {count}"
            )
        binding = state.binding
        ids = state.ids[:, :count]
        logits: Float32 = state.logits[:, :count]
        ids[0] = tokens
        bind_input(binding, "input_ids", ids)
        bind_output(binding, "logits", logits)
        old, new = state.caches[state.turn], state.caches[1 - state.turn]
        width = HEADS * HEAD_WIDTH
        for index in range(2 * LAYERS):
            layer, kind = index // 2, _KINDS[index % 2]
            before = old[index, : past * width].reshape(1, HEADS, past, HEAD_WIDTH)
            after = new[index, : (past + count) * width].reshape(1, HEADS, past + count, HEAD_WIDTH)
            bind_input(binding, f"past_{kind}.{layer}", before)
            bind_output(binding, f"present_{kind}.{layer}", after)
        self._step.run_with_iobinding(binding)
        state.length += count
        state.turn = 1 - state.turn
        after_each: Float32 = logits[0]
        return after_each

    def rewind(self, state: _State, length: int) -> None:
        """See `pipelines.contracts.EncoderDecoderModel.rewind`.

        Heads come before tokens in a cache, so that a shorter one is no prefix of a longer one: what stays is copied
        to the other buffer.
        """
        if not 0 <= length <= state.length:
            raise ValueError(f"cannot go back to {length} tokens: {state.length} were fed")
        if length == state.length:
            return
        old, new = state.caches[state.turn], state.caches[1 - state.turn]
        width = HEADS * HEAD_WIDTH
        for index in range(2 * LAYERS):
            before = old[index, : state.length * width].reshape(HEADS, state.length, HEAD_WIDTH)
            after = new[index, : length * width].reshape(HEADS, length, HEAD_WIDTH)
            np.copyto(after, before[:, :length])
        state.length = length
        state.turn = 1 - state.turn


class OrtVariant(Variant):
    """A precision in ONNX Runtime."""

    options = OrtOptions
    precision: ClassVar[str]
    step: ClassVar[str]
    """Which step graph an attention decoder runs."""
    decoder: ClassVar[str | None] = None
    """The precision of the attention decoder, where it is not the encoder's."""
    saturates: ClassVar[bool] = True
    """Whether ONNX Runtime's quick integer products could be wrong with its weights."""

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: OrtOptions) -> Iterator[EncoderDecoderModel | AcousticModel]:
        if not cls.saturates and options.exact_int8 is None:
            options = options.model_copy(update={"exact_int8": False})
        if family(context.folder) == "ctc":
            with open_ctc(context, cls.precision, options) as model:
                yield model
        elif options.chunk_frames is not None:
            raise AmiraError(f"'{cls.id}': chunk_frames is for streaming models, and '{context.model}' is none")
        else:
            yield OrtAed(context, cls.precision, cls.step, options, cross=cls.decoder)


class Fp32(OrtVariant):
    """`acoustic/ort@fp32`."""

    id = "acoustic/ort@fp32"
    families = ("aed", "ctc")
    summary = "graphs of our own (or a model card's) with IO binding; FP32"
    precision = "fp32"
    step = "step.fp32"


class Shortlist(OrtVariant):
    """`acoustic/ort-shortlist@fp32`."""

    id = "acoustic/ort-shortlist@fp32"
    families = ("aed",)
    summary = "as ort@fp32, but logits in INT8 and only the best 32 again in FP32"
    precision = "fp32"
    step = "step.fp32-shortlist"


class Int8(OrtVariant):
    """`acoustic/ort@int8`."""

    id = "acoustic/ort@int8"
    families = ("aed", "ctc")
    summary = "as @fp32, matrix products with int8 weights and 8-bit activations"
    precision = "int8"
    step = "step.int8"


class Fp16(OrtVariant):
    """`acoustic/ort@fp16`."""

    id = "acoustic/ort@fp16"
    summary = "FP16 products between FP32 norms; a CPU without such products computes them in FP32"
    families = ("aed", "ctc")
    precision = "fp16"
    step = "step.fp32"
    decoder = "fp32"
