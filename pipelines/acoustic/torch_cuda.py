"""`acoustic/torch-cuda@fp16` and `@bf16`: the plain graph in PyTorch, for a GPU without TensorRT."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from pipelines.acoustic.open_ctc import open_ctc_in
from pipelines.contracts import AcousticModel
from pipelines.engines.api import has_gpu
from pipelines.registry import Context, Unavailable, Variant


class TorchOptions(BaseModel):
    """Options of `torch-cuda`.

    Attributes:
        chunk_frames: Frames of a chunk, for streaming models; `None` for what the model's card says.
        compiled: Whether each shape is compiled by `torch.compile` first: slow to start, fast to run.
        most_streams: Streams of a streaming model's largest step, rounded up to a power of two; each power of two up to
            it is ready at the start.
        rings: Whether keys and values of streams lie in rings that kernels of ours read and write in place. Needs
            Triton, the compiler. Its logic is tested on CPUs; it has not been measured on a GPU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    chunk_frames: int | None = Field(default=None, ge=1, le=128)
    compiled: bool = True
    most_streams: int = Field(default=16, ge=1, le=4_096)
    rings: bool = False


class _TorchCuda(Variant):
    options = TorchOptions
    families = ("ctc",)
    dtype: ClassVar[str]

    @classmethod
    def available(cls) -> Unavailable | None:
        """Whether there are a GPU and PyTorch."""
        if not has_gpu():
            return Unavailable("there is no NVIDIA GPU", "Use a machine with one and its driver, or acoustic/ort@fp32.")
        if find_spec("torch") is None:
            return Unavailable("PyTorch is not installed", "pip install torch, in its build for CUDA")
        return None

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: TorchOptions) -> Iterator[AcousticModel]:
        import torch

        from pipelines.acoustic.torch_ring import in_rings
        from pipelines.acoustic.torch_session import TorchSession
        from pipelines.acoustic.torch_stream import TorchStreaming

        with ExitStack() as stack:

            def opened(file: Path) -> Any:
                session = TorchSession(file, "cuda", getattr(torch, cls.dtype), compiled=options.compiled)
                stack.callback(session.close)
                return session

            streams = partial(in_rings if options.rings else TorchStreaming, most_streams=options.most_streams)
            yield stack.enter_context(open_ctc_in(context, "plain", options.chunk_frames, opened, streams))


class Fp16(_TorchCuda):
    """`acoustic/torch-cuda@fp16`."""

    id = "acoustic/torch-cuda@fp16"
    summary = "the plain graph in PyTorch with FP16 products, compiled, as CUDA graphs"
    dtype = "float16"


class Bf16(_TorchCuda):
    """`acoustic/torch-cuda@bf16`."""

    id = "acoustic/torch-cuda@bf16"
    summary = "the plain graph in PyTorch with bfloat16 products, compiled, as CUDA graphs"
    dtype = "bfloat16"
