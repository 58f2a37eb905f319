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

Ranges = dict[str, tuple[float, float]]


def dynamic_model(model: Any, products: Collection[str]) -> Any:
    """`quantize_dynamic` of those matrices: scales of activations are found while running."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _files(model) as (given, made):
        quantize_dynamic(given, made, ["MatMul"], per_channel=True, weight_type=QuantType.QInt8,
                         nodes_to_quantize=_nodes(model, products))  # fmt: skip
        return _loaded(made)


def static_model(model: Any, products: Collection[str], ranges: Mapping[str, Sequence[float]]) -> Any:
    """`quantize_static`: unsigned activations with zero points, ranges from `static_ranges`."""
    from onnxruntime.quantization import QuantType, quantize_static

    with _files(model) as (given, made):
        cache = made.with_name("ranges.json")
        cache.write_text(_cache(ranges), "utf-8")
        quantize_static(given, made, None, per_channel=True, activation_type=QuantType.QUInt8,
                        weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"],
                        nodes_to_quantize=_nodes(model, products), calibration_cache_path=cache)  # fmt: skip
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
    nodes = _nodes(model, forms.products())
    taken = {name for node in model.graph.node if node.name in nodes for name in (*node.input, *node.output)}
    ranges: Ranges = {}
    for name, data in found.items():
        if name in taken:
            low, high = (float(np.ravel(value)[0]) for value in data.range_value)
            ranges[name] = (float(f"{low:.6g}"), float(f"{high:.6g}"))
    return ranges


def _nodes(model: Any, products: Collection[str]) -> list[str]:
    """The nodes that multiply by one of those weights."""
    return [node.name for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in products]


def _cache(ranges: Mapping[str, Sequence[float]]) -> str:
    """The ranges as ONNX Runtime stores them."""
    from onnxruntime.quantization.calibrate import (
        CalibrationCacheEncoder,
        CalibrationMethod,
        TensorData,
        TensorsData,
    )

    data = {
        name: TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))
        for name, (low, high) in ranges.items()
    }
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
