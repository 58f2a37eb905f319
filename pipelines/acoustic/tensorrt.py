"""`acoustic/tensorrt@fp16` and `@int8`: CTC models as TensorRT engines, in process.

The engine takes the place of ONNX Runtime's session; chunks, states and batches are dealt with by the same code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from pipelines.acoustic.open_ctc import open_ctc_in
from pipelines.contracts import AcousticModel
from pipelines.engines import api, build
from pipelines.engines.session import EngineSession
from pipelines.models.model_card import ctc_card
from pipelines.paths import engines_dir
from pipelines.registry import Context, Unavailable, Variant


class EngineOptions(BaseModel):
    """Options of engines.

    Attributes:
        chunk_frames: Frames of a chunk, for streaming models; `None` for what the model's card says.
        refit: Whether the engine's weights can be changed later.
        version_compatible: Whether later versions of TensorRT take it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    chunk_frames: int | None = Field(default=None, ge=1, le=128)
    refit: bool = False
    version_compatible: bool = False


class _TensorRt(Variant):
    options = EngineOptions
    families = ("ctc",)
    form: ClassVar[str]
    """The model's form that the engine is built from."""
    half: ClassVar[bool]

    @classmethod
    def available(cls) -> Unavailable | None:
        """Whether there is a GPU and TensorRT."""
        return api.problem()

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: EngineOptions) -> Iterator[AcousticModel]:
        card = ctc_card(context.folder)
        frames = options.chunk_frames or (card.streaming.chunk_frames if card.streaming else None)
        profile = build.profile_of(None if frames is None else frames * card.output.shift_samples)
        found = api.load()
        wanted = build.Options(None, cls.half, options.refit, options.version_compatible)
        with ExitStack() as stack:

            def opened(file: Path) -> EngineSession:
                engine = build.engine(file, found, gpu_name(), profile, wanted, engines_dir(), _nothing)
                session = EngineSession(engine, found)
                stack.callback(session.close)
                return session

            yield stack.enter_context(open_ctc_in(context, cls.form, options.chunk_frames, opened))


class Fp16(_TensorRt):
    """`acoustic/tensorrt@fp16`."""

    id = "acoustic/tensorrt@fp16"
    summary = "a TensorRT engine of the FP16 form: pinned copies, CUDA graphs"
    form, half = "fp16", False


class Int8(_TensorRt):
    """`acoustic/tensorrt@int8`."""

    id = "acoustic/tensorrt@int8"
    summary = "a TensorRT engine of the Q/DQ form, what is not INT8 in FP16"
    form, half = "int8-qdq", True


def _nothing(text: str) -> None:
    """Engines are built in silence here; `amira models engine` tells what happens."""


def gpu_name() -> str:
    """The GPU that engines are built for here: name and compute capability."""
    from cuda.bindings import runtime

    status, facts = runtime.cudaGetDeviceProperties(0)
    if int(status) != 0:
        raise RuntimeError(f"CUDA shows no GPU ({int(status)})")
    return f"{facts.name.decode()} sm{facts.major}{facts.minor}"
