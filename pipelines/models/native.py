"""ONNX Runtime's own INT8, beside ours: dynamic, and static with ranges from its own calibrator.

Only products with weights are quantised, the same as in our forms, so that what is compared is how.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pipelines.models.forms import Forms
from pipelines.models.graph import float_linear
from pipelines.models.hear import Listener
from pipelines.models.moonshine import Float32

Ranges = dict[str, tuple[float, float, float, float]]
"""Product to the smallest and largest value of its input, then of its output."""


def dynamic_model(model: Any, products: Collection[str]) -> Any:
    """`quantize_dynamic` of those matrices: scales of activations are found while running."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _files(model) as (given, made):
        quantize_dynamic(given, made, ["MatMul"], per_channel=True, weight_type=QuantType.QInt8,
                         nodes_to_quantize=[node.name for node in _nodes(model, products).values()])  # fmt: skip
        return _loaded(made)


def static_model(model: Any, products: Collection[str], ranges: Mapping[str, Sequence[float]]) -> Any:
    """`quantize_static`: unsigned activations with zero points, ranges from `static_ranges`."""
    from onnxruntime.quantization import QuantType, quantize_static

    nodes = _nodes(model, products)
    with _files(model) as (given, made):
        cache = made.with_name("ranges.json")
        cache.write_text(_cache(nodes, ranges), "utf-8")
        quantize_static(given, made, None, per_channel=True, activation_type=QuantType.QUInt8,
                        weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"], calibration_cache_path=cache,
                        nodes_to_quantize=[node.name for node in nodes.values()])  # fmt: skip
        return _loaded(made)


def static_ranges(forms: Forms, clips: Sequence[Float32]) -> Ranges:
    """Smallest and largest value of the tensors around products, by ONNX Runtime's calibrator."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    model = forms.write(forms.weights, float_linear, plain=True)
    listener = Listener(model, [forms.output], forms.chunk_samples)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Every run of every clip."""

        def __init__(self) -> None:
            self._feeds = (dict(feeds) for clip in clips for feeds, _ in listener.runs(clip))

        def get_next(self) -> Any:
            return next(self._feeds, None)

    with _files(model) as (given, made):
        calibrator = create_calibrator(
            given, ["MatMul"], augmented_model_path=str(made), calibrate_method=CalibrationMethod.MinMax
        )
        calibrator.collect_data(Reader())
        found = calibrator.compute_data()
    ranges: Ranges = {}
    for name, node in _nodes(model, forms.products()).items():
        edges = [np.ravel(edge)[0] for end in (node.input[0], node.output[0]) for edge in found[end].range_value]
        low, high, least, most = (float(f"{edge:.6g}") for edge in edges)
        ranges[name] = (low, high, least, most)
    return ranges


def _nodes(model: Any, products: Collection[str]) -> dict[str, Any]:
    """The nodes that multiply by one of those weights, by the weight's name."""
    return {node.input[1]: node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in products}


def _cache(nodes: Mapping[str, Any], ranges: Mapping[str, Sequence[float]]) -> str:
    """The ranges as ONNX Runtime stores them."""
    from onnxruntime.quantization.calibrate import (
        CalibrationCacheEncoder,
        CalibrationMethod,
        TensorData,
        TensorsData,
    )

    data = {}
    for name, node in nodes.items():
        low, high, least, most = np.array(ranges[name], np.float32)
        data[node.input[0]] = TensorData(lowest=low, highest=high)
        data[node.output[0]] = TensorData(lowest=least, highest=most)
    stored = TensorsData(CalibrationMethod.MinMax, data).to_dict() | {"smooth_quant": False}
    return json.dumps(stored, cls=CalibrationCacheEncoder)


@contextmanager
def _files(model: Any) -> Iterator[tuple[Path, Path]]:
    """A file with the model, and one for what is made of it; ONNX Runtime's advice to pre-process is kept quiet."""
    import onnx

    logger = logging.getLogger()
    level = logger.level
    with TemporaryDirectory() as folder:
        given = Path(folder) / "given.onnx"
        onnx.save(model, given)
        logger.setLevel(logging.ERROR)
        try:
            yield given, Path(folder) / "made.onnx"
        finally:
            logger.setLevel(level)


def _loaded(path: Path) -> Any:
    import onnx

    return onnx.load(path)
