"""`acoustic/triton@fp32` and `@int8`: the acoustic part on Triton, over the connection of the `connection` axis.

Of an attention model only the encoder runs there. Its decoder stays in the process: a step takes and gives the keys
and values of every layer, some hundred times the bytes of the token that it is about, sixty times a clip. (Where the
whole clip belongs on the server, the repository's `moonshine-aed` does the loop there.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from pipelines.acoustic.ort import OrtAed
from pipelines.acoustic.sessions import SessionOptions
from pipelines.contracts import EncoderDecoderModel, Float32
from pipelines.registry import Context, Unavailable, Variant
from pipelines.triton import variants


class TritonAed(OrtAed):
    """Moonshine with its encoder on Triton."""

    def __init__(self, context: Context, precision: str, model: str) -> None:
        super().__init__(context, precision, f"step.{precision}", SessionOptions(), encoder=False)
        self._service = context.parts["connection"]
        self._model = model
        self._service.need(model)

    def _encode_impl(self, samples: Float32, hidden: Float32) -> None:
        inputs = {"input_values": np.ascontiguousarray(samples)}
        reply = self._service.infer(self._model, inputs, ("last_hidden_state",))
        hidden[:] = reply.outputs["last_hidden_state"]


class _Triton(Variant):
    families = ("aed",)
    needs = ("connection",)
    precision: ClassVar[str]
    suffix: ClassVar[str]
    """What the names of the repository's models of this precision end in."""

    @classmethod
    def available(cls) -> Unavailable | None:
        """The client or the server that this machine lacks."""
        return variants.problem()

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[EncoderDecoderModel]:
        yield TritonAed(context, cls.precision, f"moonshine-encoder{cls.suffix}")


class Fp32(_Triton):
    """`acoustic/triton@fp32`."""

    id = "acoustic/triton@fp32"
    summary = "the acoustic graphs of ort@fp32 on a Triton server"
    precision = "fp32"
    suffix = ""


class Int8(_Triton):
    """`acoustic/triton@int8`."""

    id = "acoustic/triton@int8"
    summary = "the acoustic graphs of ort@int8 on a Triton server"
    precision = "int8"
    suffix = "-int8"
