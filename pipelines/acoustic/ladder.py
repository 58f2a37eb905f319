"""`acoustic/ort@plain` and the precisions that come from it, in ONNX Runtime on a CPU.

Of the encoder-decoder they run the encoder; its decoder stays FP32, so that a difference is the encoder's.
"""

from __future__ import annotations

from typing import ClassVar

from pipelines.acoustic.ort import OrtVariant


class _Rung(OrtVariant):
    families: ClassVar[tuple[str, ...]] = ("aed", "ctc")
    step = "step.fp32"
    decoder = "fp32"


class Plain(_Rung):
    """`acoustic/ort@plain`."""

    id = "acoustic/ort@plain"
    summary = "FP32 in ONNX's own operators alone: the graph that the other precisions come from"
    precision = "plain"


class Fp16Autocast(_Rung):
    """`acoustic/ort@fp16-autocast`."""

    families = ("ctc",)
    id = "acoustic/ort@fp16-autocast"
    summary = "FP16 by NVIDIA ModelOpt's AutoCast; a CPU computes it in FP32 between casts"
    precision = "fp16-autocast"


class Int8Qdq(_Rung):
    """`acoustic/ort@int8-qdq`."""

    id = "acoustic/ort@int8-qdq"
    summary = "INT8 as explicit Q/DQ: calibrated scales, sensitive products in FP32"
    precision = "int8-qdq"


class Int8Balanced(_Rung):
    """`acoustic/ort@int8-balanced`."""

    id = "acoustic/ort@int8-balanced"
    summary = "INT8 with scales found while running: channels in balance, weights that no CPU saturates"
    precision = "int8-balanced"
    saturates = False


class Int8Dynamic(_Rung):
    """`acoustic/ort@int8-dynamic`."""

    families = ("ctc",)
    id = "acoustic/ort@int8-dynamic"
    summary = "INT8 by ONNX Runtime's dynamic quantisation, one scale for each output of a matrix"
    precision = "int8-dynamic"


class Int8Static(_Rung):
    """`acoustic/ort@int8-static`."""

    families = ("ctc",)
    id = "acoustic/ort@int8-static"
    summary = "INT8 by ONNX Runtime's static quantisation, ranges from its own calibrator"
    precision = "int8-static"
