"""From an ONNX file to an engine: profiles, one file for each model, version, GPU and profile, a timing cache beside.

An engine that was built is found again by a key of all that it depends on; what changes gives another key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.contracts import SAMPLE_RATE
from pipelines.engines.api import Api
from pipelines.errors import AmiraError
from pipelines.models import source

Progress = Callable[[str], None]
TIMING_CACHE = "timing.cache"


@dataclass(frozen=True, slots=True)
class Profile:
    """How large a model's inputs are.

    Attributes:
        name: What it is for.
        batch: Least, usual and most rows.
        samples: Least, usual and most samples of a row.
    """

    name: str
    batch: tuple[int, int, int]
    samples: tuple[int, int, int]

    def shapes(self, shape: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """An input's shape at each of the three; -1 on its first axis counts rows, elsewhere samples."""
        pairs = zip(self.batch, self.samples, strict=True)
        return tuple(
            tuple((rows if axis == 0 else samples) if size == -1 else size for axis, size in enumerate(shape))
            for rows, samples in pairs
        )


UTTERANCES = Profile("utterances", (1, 4, 16), (SAMPLE_RATE // 10, 5 * SAMPLE_RATE, 30 * SAMPLE_RATE))


def chunks(chunk_samples: int, streams: int = 64) -> Profile:
    """Chunks of many streams; all sizes of a chunk are the same but for a stream's last one."""
    shift = 384
    return Profile(f"chunks of {chunk_samples}", (1, 8, streams), (shift, chunk_samples, chunk_samples))


@dataclass(frozen=True, slots=True)
class Options:
    """What an engine is built with.

    Attributes:
        target: Compute capability such as `sm89`; `None` for the GPU at hand.
        half: Make the graph's float products FP16 first (`pipelines.models.half`).
        refit: Whether its weights can be changed later.
        version_compatible: Whether later versions of TensorRT take it.
    """

    target: str | None = None
    half: bool = False
    refit: bool = False
    version_compatible: bool = False


def key(onnx_file: Path, api: Api, gpu: str, profile: Profile, options: Options) -> str:
    """What an engine is found again by."""
    facts = [source.sha256(onnx_file), api.kind, api.version, gpu, asdict(profile), asdict(options)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def engine(
    onnx_file: Path, api: Api, gpu: str, profile: Profile, options: Options, folder: Path, progress: Progress
) -> Path:
    """The engine's file, built where it is not there yet; it appears only when it is whole.

    Raises:
        AmiraError: The model file is missing, has operators that are not supported, or cannot be built.
    """
    if not onnx_file.is_file():
        raise AmiraError(f"model file {onnx_file} does not exist. Build it: amira models build")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{onnx_file.parent.name}-{onnx_file.stem}-{key(onnx_file, api, gpu, profile, options)}.engine"
    if path.is_file():
        progress(f"{path.name}: up to date")
        return path
    progress(f"{path.name}: building with {api.kind} {api.version} for {options.target or gpu}")
    made = build(onnx_file, api, profile, options, folder / TIMING_CACHE)
    part = path.with_suffix(".part")
    part.write_bytes(made)
    part.replace(path)
    return path


def build(onnx_file: Path, api: Api, profile: Profile, options: Options, timing_cache: Path) -> bytes:
    """Parse and compile; see `engine`."""
    trt = api.module
    logger = api.logger()
    builder = trt.Builder(logger)
    network = builder.create_network(api.network_flags())
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(_graph(onnx_file, half=options.half)):
        raise AmiraError(_refusal(onnx_file, api, parser))
    config = builder.create_builder_config()
    api.configure(config, options.target, refit=options.refit, version_compatible=options.version_compatible)
    sizes = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        given = network.get_input(index)
        sizes.set_shape(given.name, *profile.shapes(tuple(given.shape)))
    config.add_optimization_profile(sizes)
    cache = None
    if api.keeps_timings:
        cache = config.create_timing_cache(timing_cache.read_bytes() if timing_cache.is_file() else b"")
        config.set_timing_cache(cache, ignore_mismatch=True)
    made = builder.build_serialized_network(network, config)
    if made is None:
        raise AmiraError(
            f"{api.kind} {api.version} cannot build {onnx_file.name} for {options.target or 'this GPU'}; what it says "
            "is above. Free GPU memory, or use acoustic/ort@fp32"
        )
    if cache is not None:
        timing_cache.write_bytes(bytes(cache.serialize()))
    return bytes(made)


def _graph(onnx_file: Path, *, half: bool) -> bytes:
    if not half:
        return onnx_file.read_bytes()
    import onnx

    from pipelines.models.half import half_model

    return bytes(half_model(onnx.load(onnx_file)).SerializeToString())


def _refusal(onnx_file: Path, api: Api, parser: Any) -> str:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    told = "; ".join(f"{error.node_name()} ({error.node_operator()}): {error.desc()}" for error in errors[:3])
    return (
        f"{api.kind} {api.version} does not take {onnx_file.name}: {told or 'it is no ONNX file'}. "
        "Export the model in ONNX's own operators, as the form `plain` is, or run it with acoustic/ort@fp32"
    )


def profile_of(chunk_samples: int | None) -> Profile:
    """The profile that a model is run with: chunks where it streams, else utterances."""
    return UTTERANCES if chunk_samples is None else chunks(chunk_samples)
