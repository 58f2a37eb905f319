"""Writing a model's forms: which ones a request stands for, what each needs, and how it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipelines.contracts import SAMPLE_RATE
from pipelines.errors import AmiraError, unknown
from pipelines.models import calibration
from pipelines.models.forms import DEFAULT, PRECISIONS, Forms
from pipelines.models.hear import Listener

USUAL = tuple(form for precision in DEFAULT for form in PRECISIONS[precision])
Progress = Callable[[str], None]


def precisions(asked: str) -> tuple[str, ...]:
    """What `fp32,int8` names, in the order of the ladder; FP32 is always among them, since the others come from it.

    Raises:
        AmiraError: One of them is unknown.
    """
    names = {name.strip() for name in asked.split(",")} | {"fp32"}
    for name in sorted(names - set(PRECISIONS)):
        raise unknown("precision", name, PRECISIONS, "Name some of them, with commas between.")
    return tuple(name for name in PRECISIONS if name in names)


def writers(
    forms: Forms, asked: Sequence[str], calibrated: Path, progress: Progress
) -> Mapping[str, Callable[[], Any]]:
    """Form to what makes its graph; what cannot be made here is left out, and `progress` says why.

    Args:
        forms: The model.
        asked: Precisions.
        calibrated: Its calibration.
        progress: Hears what is left out.

    Raises:
        AmiraError: The calibration is damaged, or a form beyond the usual ones cannot be made here.
    """
    from pipelines.models import graph, native
    from pipelines.models.half import half_model

    found = calibration.read(calibrated, forms)

    def plain() -> Any:
        return forms.write(forms.weights, graph.float_linear, plain=True)

    every: dict[str, Callable[[], Any]] = {
        "fp32": lambda: forms.write(forms.weights, graph.float_linear),
        "plain": plain,
        "fp16": lambda: half_model(plain()),
        "fp16-autocast": lambda: autocast(plain(), forms),
        "int8": lambda: forms.write(forms.weights, forms.small),
        "int8-dynamic": lambda: native.dynamic_model(plain(), forms.products()),
    }
    missing: dict[str, str] = {}
    if find_spec("modelopt") is None:
        missing["fp16-autocast"] = "NVIDIA ModelOpt is not installed: pip install 'amira-asr[autocast]'"
    if found is None:
        reason = f"has no calibration for these weights: amira models calibrate {forms.name}"
        missing |= {"int8-qdq": reason, "int8-balanced": reason, "int8-static": reason}
    else:
        every["int8-qdq"] = lambda: found.graph(forms)
        every["int8-balanced"] = lambda: found.balanced(forms)
        every["int8-static"] = lambda: native.static_model(plain(), forms.products(), found.native)
    wanted = [form for precision in asked for form in PRECISIONS[precision]]
    for form in wanted:
        if form in missing and form not in USUAL:
            raise AmiraError(f"{forms.name}: {form} cannot be built: {missing[form]}")
        if form in missing:
            progress(f"{forms.name}: {form} is not built: {missing[form]}")
    return {form: every[form] for form in wanted if form not in missing}


def autocast(model: Any, forms: Forms) -> Any:
    """NVIDIA ModelOpt's AutoCast with its own limits: what reaches far on a second of noise stays FP32."""
    import logging

    import numpy as np
    import onnx
    from modelopt.onnx.autocast import convert_to_mixed_precision

    noise = (0.1 * np.random.default_rng(0).standard_normal(SAMPLE_RATE)).astype(np.float32)
    feeds, _ = next(Listener(model, [forms.output], forms.chunk_samples).runs(noise))
    with TemporaryDirectory() as folder:
        path, data = Path(folder) / "plain.onnx", Path(folder) / "data.npz"
        onnx.save(model, path)
        np.savez(data, **feeds)  # type: ignore[arg-type]
        for name in ("modelopt.onnx", "modelopt.onnx.autocast"):
            logging.getLogger(name).setLevel(logging.ERROR)
        return convert_to_mixed_precision(
            str(path), low_precision_type="fp16", keep_io_types=True, calibration_data=str(data)
        )
