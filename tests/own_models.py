"""Models of one's own for tests: folders with a card, the features that toolkits make, and opening what was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import kaldi_native_fbank as knf
import numpy as np
import onnx

from kernels.features import nemo_config, nemo_triangles
from pipelines import registry
from pipelines.contracts import Float32
from pipelines.paths import models_dir
from pipelines.registry import Context

MELS = 80
PIECES = ["<blk>", "<unk>", "\u2581a", "b", "\u2581c", "d"]


def write_files(folder: Path, sections: str, models: Mapping[str, onnx.ModelProto], tokens: list[str] = PIECES) -> Path:
    """Write a folder with its files, labels and card; returns the folder."""
    folder.mkdir()
    for name, model in models.items():
        onnx.save(model, folder / name)
    (folder / "tokens.txt").write_text("".join(f"{piece} {index}\n" for index, piece in enumerate(tokens)), "utf-8")
    head = 'family = "ctc"\nname = "toy"\n[files]\nfp32 = "model.onnx"\n'
    (folder / "model-card.toml").write_text(head + sections, "utf-8")
    return folder


def kaldi_features(samples: Float32, *, scale: float, high_hz: float) -> Float32:
    """What kaldi-native-fbank makes of a clip."""
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins, options.mel_opts.low_freq, options.mel_opts.high_freq = MELS, 20, high_hz
    fbank = knf.OnlineFbank(options)
    fbank.accept_waveform(16_000, (samples * scale).tolist())
    fbank.input_finished()
    return np.stack([fbank.get_frame(index) for index in range(fbank.num_frames_ready)])


def nemo_features(samples: Float32, *, per_feature: bool = True) -> Float32:
    """NeMo's preprocessor written out: centred frames, Slaney's mels, normalised per channel if so wanted."""
    config = nemo_config()
    emphasised = np.append(samples[0], samples[1:] - 0.97 * samples[:-1]).astype(np.float64)
    padded = np.pad(emphasised, 256)
    window = np.zeros(512)
    window[56:456] = np.hanning(400)
    frames = np.stack([padded[start : start + 512] * window for start in range(0, len(samples) // 160 * 160, 160)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    logs = np.log(power @ nemo_triangles(config).T + 2.0**-24)
    if not per_feature:
        return logs.astype(np.float32)
    return ((logs - logs.mean(axis=0)) / (logs.std(axis=0, ddof=1) + 1e-5)).astype(np.float32)


@contextmanager
def opened(folder: Path, **options: Any) -> Iterator[Any]:
    """The acoustic model of a folder."""
    context = Context(models_dir(), str(folder), 1, {})
    with ExitStack() as stack:
        for axis, name in (("memory", "pooled"), ("kernel", "numpy")):
            context.parts[axis] = stack.enter_context(registry.get(f"{axis}/{name}").open(context))
        yield stack.enter_context(registry.get("acoustic/ort@fp32").open(context, **options))


def voice(seconds: float, seed: int) -> Float32:
    """Noise that swells, in place of speech."""
    rng = np.random.default_rng(seed)
    count = round(seconds * 16_000)
    return (0.2 * rng.standard_normal(count) * np.sin(np.arange(count) / 900) ** 2).astype(np.float32)
