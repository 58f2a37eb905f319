"""One model, all its precisions: the ladder that starts from one plain FP32 graph.

`plain` is in ONNX's own operators and is what the others come from: `fp16` keeps norms, softmax and the residual stream
in FP32 (`half.py`), `int8-qdq` has calibrated scales (`calibration.py`), `int8-balanced` finds them while running
(`dynamic.py`). Its rivals, built where asked for, are
`fp16-autocast` by NVIDIA ModelOpt and ONNX Runtime's own `int8-dynamic` and `int8-static`. Beside the ladder stand
`fp32` and `int8`, with ONNX Runtime's operators, for the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.models import source, trained
from pipelines.models.moonshine import Linear, Weights, WeightSource

PRECISIONS: Mapping[str, tuple[str, ...]] = {
    "fp32": ("fp32", "plain"),
    "fp16": ("fp16",),
    "int8": ("int8", "int8-qdq", "int8-balanced"),
    "fp16-autocast": ("fp16-autocast",),
    "int8-ort": ("int8-dynamic", "int8-static"),
}
"""What one asks for, and the forms that it stands for."""
DEFAULT = ("fp32", "fp16", "int8")
ABOUT = {
    "fp32": "FP32, attention as one operator of ONNX Runtime's",
    "plain": "FP32 in ONNX's own operators, for any runtime: where the ladder starts",
    "fp16": "FP16 products between FP32 norms, ONNX's own operators",
    "fp16-autocast": "FP16 by NVIDIA ModelOpt's AutoCast",
    "int8": "int8 weights, 8-bit activations rounded while running",
    "int8-qdq": "INT8 as explicit Q/DQ with calibrated scales, ONNX's own operators",
    "int8-balanced": "INT8 with scales found while running, channels in balance, weights that no CPU saturates",
    "int8-dynamic": "INT8 by ONNX Runtime's dynamic quantisation",
    "int8-static": "INT8 by ONNX Runtime's static quantisation",
}


@dataclass(frozen=True, slots=True)
class Forms:
    """How a model's graph is written, and what its output is.

    Attributes:
        name: Of the model.
        weights: Its weights.
        write: Takes weights, a `LinearWriter` and `plain=`.
        small: How its products are written in `int8`.
        output: The output that says how far a form is from FP32.
        chunk_samples: For a model of chunks.
        sources: Files that the weights come from, with their hashes.
    """

    name: str
    weights: WeightSource
    write: Callable[..., Any]
    small: Callable[..., str]
    output: str
    chunk_samples: int | None
    sources: Mapping[str, str]

    def products(self) -> dict[str, Linear]:
        """The matrices that its graph multiplies by, in order, by name: all that INT8 can be used for."""
        from pipelines.models.graph import float_linear

        found: dict[str, Linear] = {}

        def listing(graph: Any, x: str, matrix: Linear) -> str:
            found[matrix.name] = matrix
            return float_linear(graph, x, matrix)

        self.write(self.weights, listing)
        return found


def ctc_forms(weights_dir: Path) -> Forms:
    """Those of a CTC model, from its folder of weights."""
    from pipelines.models import build_ctc, ctc_graph, graph, stream_graph, token_head
    from pipelines.models.fold import fold, read_ort
    from pipelines.models.moonshine import FRAME_SAMPLES

    config = build_ctc.read_config(weights_dir)
    package = Weights.of_encoder(fold(read_ort(source.verified(source.ENCODER))))
    files = build_ctc.files_of_weights(weights_dir)
    tensors = {name: value for path in files for name, value in trained.load(path).items()}
    if config.units == "tokens":
        decoder = Weights.of_decoder(fold(read_ort(source.verified(source.DECODER))))
        tensors = token_head.with_units(tensors, decoder.embedding().value.T)
    weights = trained.TrainedWeights(tensors, package)
    sources = build_ctc.lower_sources(weights_dir) | {build_ctc.WEIGHTS: source.sha256(files[-1])}
    if not config.streaming:
        write, small = ctc_graph.ctc_graph, graph.integer_linear
        if config.units == "tokens":
            write, small = ctc_graph.token_graph, token_head.small_linear
        return Forms(weights_dir.name, weights, write, small, "log_probs", None, sources)
    shape = stream_graph.StreamShape(config.layers, config.left_frames, config.stem_mean, config.stem_std)
    return Forms(
        weights_dir.name,
        weights,
        partial(stream_graph.stream_graph, shape=shape),
        graph.block_scaled_linear,
        "log_probs",
        config.chunk_frames * FRAME_SAMPLES,
        sources,
    )


def encoder_forms() -> Forms:
    """Those of the default model's encoder."""
    from pipelines.models import build, encoder_graph, graph
    from pipelines.models.fold import fold, read_ort

    weights = Weights.of_encoder(fold(read_ort(source.verified(source.ENCODER))))
    sources = {Path(source.ENCODER.path).name: source.ENCODER.sha256}
    return Forms(
        build.NAME, weights, encoder_graph.encoder_graph, graph.integer_linear, "last_hidden_state", None, sources
    )
