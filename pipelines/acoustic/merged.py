"""`acoustic/ort@shipped` and `@folded`: the merged decoder in ONNX Runtime, the way its authors exported it.

One graph with an `If`: the first step computes the encoder's keys and values, every later step takes them in and
hands them out again. Every input is fed and every output returned as a new array.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.acoustic.moonshine import MoonshineAed
from pipelines.acoustic.sessions import open_session
from pipelines.contracts import Buffers, Encoded, EncoderDecoderModel, Float32
from pipelines.models import source
from pipelines.models.moonshine import HEAD_WIDTH, HEADS, LAYERS
from pipelines.registry import Context, Variant


@dataclass(slots=True)
class _State:
    hidden: Float32
    max_tokens: int
    cache: dict[str, Float32] = field(default_factory=dict)
    length: int = 0


class MergedAed(MoonshineAed):
    """Moonshine with the merged decoder graph."""

    max_step_tokens = 1

    def __init__(self, buffers: Buffers, encoder: Path, decoder: Path, tokenizer: Path, threads: int) -> None:
        super().__init__(buffers, tokenizer)
        self._encoder, self._decoder = (open_session(path, threads) for path in (encoder, decoder))
        self._outputs = [output.name for output in self._decoder.get_outputs()]

    def _encode_impl(self, samples: Float32, hidden: Float32) -> None:
        [hidden[:]] = self._encoder.run(None, {"input_values": samples})

    @contextmanager
    def open(self, encoded: Encoded, max_tokens: int) -> Iterator[_State]:
        """See `pipelines.contracts.EncoderDecoderModel.open`."""
        empty = np.zeros((1, HEADS, 0, HEAD_WIDTH), np.float32)
        names = [
            f"past_key_values.{layer}.{side}.{kind}"
            for layer in range(LAYERS)
            for side in ("decoder", "encoder")
            for kind in ("key", "value")
        ]
        yield _State(encoded.hidden, max_tokens, dict.fromkeys(names, empty))

    def step(self, state: _State, tokens: Sequence[int]) -> Float32:
        """See `pipelines.contracts.EncoderDecoderModel.step`.

        Raises:
            ValueError: Not one token (the cached branch has no causal mask for several), or no room for it.
        """
        if len(tokens) != 1 or state.length >= state.max_tokens:
            raise ValueError(
                f"the merged decoder takes one token a step and this state holds {state.max_tokens}, "
                f"of which {state.length} are used; got {len(tokens)}"
            )
        cached = state.length > 0
        feeds = {
            "input_ids": np.array([tokens], np.int64),
            "encoder_hidden_states": state.hidden,
            "use_cache_branch": np.array([cached]),
            **state.cache,
        }
        logits, *present = self._decoder.run(self._outputs, feeds)
        for name, value in zip(self._outputs[1:], present, strict=True):
            # With the cache in use the encoder's keys come out empty: keep those of the first step.
            if not (cached and ".encoder." in name):
                state.cache[name.replace("present", "past_key_values")] = value
        state.length += 1
        return logits[0]  # type: ignore[no-any-return]

    def rewind(self, state: _State, length: int) -> None:
        """See `pipelines.contracts.EncoderDecoderModel.rewind`."""
        if not 0 <= length <= state.length:
            raise ValueError(f"cannot go back to {length} tokens: {state.length} were fed")
        for name, value in state.cache.items():
            if ".decoder." in name:
                state.cache[name] = np.ascontiguousarray(value[:, :, :length])
        state.length = length


class Shipped(Variant):
    """`acoustic/ort@shipped`."""

    id = "acoustic/ort@shipped"
    summary = "the .ort files as their package ships them: int8 weights dequantised at every call"
    families = ("aed",)

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[EncoderDecoderModel]:
        encoder, decoder, tokenizer = map(source.verified, (source.ENCODER, source.DECODER, source.TOKENIZER))
        yield MergedAed(context.buffers, encoder, decoder, tokenizer, context.threads)


class Folded(Variant):
    """`acoustic/ort@folded`."""

    id = "acoustic/ort@folded"
    summary = "the same graphs with the weights dequantised once, at build time; FP32"
    families = ("aed",)

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[EncoderDecoderModel]:
        folder = context.models_dir / context.model
        files = (
            folder / name for name in ("encoder-exported.fp32.onnx", "decoder-exported.fp32.onnx", "tokenizer.bin")
        )
        encoder, decoder, tokenizer = files
        yield MergedAed(context.buffers, encoder, decoder, tokenizer, context.threads)
