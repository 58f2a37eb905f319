"""Opens a variant on top of what it needs, for the contract suite."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import registry
from pipelines.config import PipelineConfig, default_config
from pipelines.models.model_card import ctc_card
from pipelines.paths import models_dir
from pipelines.registry import Context
from pipelines.streaming import Opener
from tests.contract.options import needed_options
from tests.small_ctc import write_small_ctc, write_small_stream
from tests.trained_weights import write_own_stream

STREAMING = ("vad", "partials", "finals")
ORDER = ("memory", "kernel", "acoustic", "decoder")
OWN_MODELS = dict.fromkeys(("acoustic/simd-stream@fp32", "acoustic/simd-stream@int8"), write_own_stream)
"""Small models for variants that run one architecture alone."""
CTC_BELOW = {"memory": "memory/pooled", "kernel": "kernel/scalar", "acoustic": "acoustic/ort@fp32"}


@contextmanager
def small_ctc_on_triton(folder: Path, parts: dict[str, Any]) -> Iterator[Context]:
    """The context of the small CTC model, which a Triton of its own serves with the repository's configuration.

    A streaming one remembers less than the repository's.
    """
    from pipelines.triton import repository, variants
    from pipelines.triton.server import ServerSpec, TritonServer

    streams = ctc_card(folder).streaming is not None
    config = (repository.served() / ("stream-ctc-server" if streams else "moonshine-ctc") / "config.pbtxt").read_text()
    if streams:
        config = re.sub(r'string_value: "next_\w+=.*"', 'string_value: "next_samples=state_samples"', config)
    names = ("small", "small-int8")
    for name in names:
        (folder / "served" / name / "1").mkdir(parents=True)
        shutil.copy2(folder / "model.onnx", folder / "served" / name / "1" / "model.onnx")
        (folder / "served" / name / "config.pbtxt").write_text(config)
    (folder / "small").symlink_to(folder)
    with TritonServer(ServerSpec(folder / "served", names)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv(variants.URL_VARIABLE, server.url)
        patch.setenv(variants.HTTP_URL_VARIABLE, server.http_url)
        yield Context(models_dir(), str(folder / "small"), 1, parts)


@contextmanager
def opened(
    variant_id: str, family: str, folder: Path, write: Callable[[Path], Path] = write_small_ctc
) -> Iterator[Any]:
    """The variant's resource, on top of the parts that come before it; skips where it cannot run.

    Without a family, or for `aed`, that is the default pipeline; for `ctc` it is a small model in `folder`.
    """
    variant = registry.get(variant_id)
    problem = variant.available()
    if problem is not None:
        pytest.skip(f"{problem.reason} {problem.remedy}")
    axis = variant_id.partition("/")[0]
    parts: dict[str, Any] = {}
    ctc = family == "ctc"
    model = str(OWN_MODELS.get(variant_id, write)(folder)) if ctc else default_config().model
    variants = CTC_BELOW if ctc else default_config().variants
    context = Context(models_dir(), model, 1, parts)
    with ExitStack() as stack:
        if ctc and variant.needs:
            context = stack.enter_context(small_ctc_on_triton(folder, parts))
        for other in variant.needs:
            parts[other] = stack.enter_context(registry.get(registry.ids(other)[0]).open(context))
        if axis in ORDER:
            for below in ORDER[: ORDER.index(axis)]:
                parts[below] = stack.enter_context(registry.get(variants[below]).open(context))
        if axis in STREAMING:
            second = Opener(default_config(), models_dir())
            first = streaming_pipeline(folder) if variant_id == "partials/streaming" else None
            parts |= {"first": Opener(first, models_dir()), "second": second.pipeline, "second_parts": second.parts}
        yield stack.enter_context(variant.open(context, **needed_options(variant, folder)))


def streaming_pipeline(folder: Path) -> PipelineConfig:
    """A small streaming model and its decoder."""
    model = str(write_small_stream(folder / "stream"))
    return PipelineConfig(model=model, variants={**CTC_BELOW, "decoder": "decoder/greedy"})


def tone(seconds: float) -> np.ndarray:
    """A voice-like buzz: harmonics of 120 Hz under a slow envelope; int16."""
    t = np.arange(round(seconds * 16_000)) / 16_000
    wave = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 20)) * np.sin(2 * np.pi * 3 * t) ** 2
    return (wave / np.abs(wave).max() * 8_000).astype("<i2")
