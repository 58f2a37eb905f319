"""Calibrating INT8 on speech: how far each product's input reaches, by which rule, and which products stay FP32.

The result is a file beside the weights, so that a build needs no speech; it is used only for the weights that it was
made for.

Of the form whose scales are found while running it says which products have a scale for each row, and which stay FP32:
as few multiplications as bring it near enough.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.errors import AmiraError
from pipelines.models import native
from pipelines.models.dynamic import dynamic_linear
from pipelines.models.forms import Forms
from pipelines.models.graph import LinearWriter, float_linear
from pipelines.models.hear import Listener
from pipelines.models.moonshine import WIDTH, Float32, Linear, WeightSource
from pipelines.models.qdq import NORM_OF, STEM_NORM, STEM_PRODUCT, SmoothedWeights, balance, qdq_linear
from pipelines.models.ranges import Magnitudes

FILE = "calibration.json"
MIN_CLIPS = 8
HELD_OUT = 4
"""Clips that judge ranges and products; the others give the ranges."""
LEFT_OUT_SHARE = 0.1
"""A product stays FP32 where it alone moves the output by more than this share of what all of them do together."""
ENOUGH = 1e-3
"""Divergence of all together below which nothing more is left out."""
ENOUGH_DYNAMIC = 6e-4
"""The same for scales that are found while running; what is left out then costs half of its speed."""
ROW_COST = 100
"""Multiplications that finding a row's scale costs for each input: three passes over it."""
Way = Literal["tensor", "row", "float32"]
"""One scale for the whole of a product's input, one for each row, or no INT8."""
Rule = Literal["entropy", "percentile", "largest"]
RULES: tuple[Rule, ...] = get_args(Rule)
Progress = Callable[[str], None]


class Distance(BaseModel):
    """How far a form is from FP32: of log-probabilities, mean divergence of a frame and share of other best labels.

    Of hidden states, the squared relative error, and no labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    divergence: float
    flipped: float


class Dynamic(BaseModel):
    """What becomes of each product where scales are found while running.

    Attributes:
        ways: Product to what becomes of it.
        sweep: Way to product to its distance alone.
        together: `all` with one scale for each tensor, and `chosen`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ways: dict[str, Way]
    sweep: dict[Way, dict[str, Distance]]
    together: dict[str, Distance]


class Calibration(BaseModel):
    """What calibrating found.

    Attributes:
        sources: The weights that it holds for: file name to sha256.
        corpus: The speech.
        clips: How many clips were heard for the ranges.
        held_out: How many others judged methods and products.
        ranges: Rule to product to the largest magnitude that is told apart.
        rules: Product to the rule whose range is used.
        factors: Norm to what its channels are divided by.
        float32: Products that stay FP32.
        sweep: Each product alone in INT8.
        native: Ranges by ONNX Runtime's own calibrator, for `int8-static`.
        together: Each rule with all products in INT8, and `chosen`: the rule and products that are used.
        dynamic: The same where scales are found while running.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: dict[str, str]
    corpus: str
    clips: int
    held_out: int
    ranges: dict[Rule, dict[str, float]]
    rules: dict[str, Rule]
    factors: dict[str, list[float]]
    float32: tuple[str, ...]
    native: native.Ranges
    sweep: dict[Rule, dict[str, Distance]]
    together: dict[str, Distance]
    dynamic: Dynamic

    def weights(self, forms: Forms) -> WeightSource:
        """The model's weights in balance."""
        factors = {name: np.array(values, np.float32) for name, values in self.factors.items()}
        return SmoothedWeights(forms.weights, factors)

    def graph(self, forms: Forms) -> Any:
        """The Q/DQ form."""
        return forms.write(self.weights(forms), qdq_linear(self.chosen(), self.float32), plain=True)

    def balanced(self, forms: Forms) -> Any:
        """The form whose scales are found while running."""
        return forms.write(self.weights(forms), ways_linear(self.dynamic.ways))

    def chosen(self) -> dict[str, float]:
        """Product to its range."""
        return {name: self.ranges[rule][name] for name, rule in self.rules.items()}


def read(path: Path, forms: Forms) -> Calibration | None:
    """The stored calibration; `None` where there is none, or it is of other weights.

    Raises:
        AmiraError: The file is damaged.
    """
    if not path.is_file():
        return None
    try:
        found = Calibration.model_validate_json(path.read_text("utf-8"))
    except (OSError, ValidationError) as error:
        raise AmiraError(
            f"calibration {path} is damaged: {error}. Make it anew: amira models calibrate {forms.name}"
        ) from error
    return found if found.sources == dict(forms.sources) else None


def calibrate(forms: Forms, corpus: str, clips: Sequence[Float32], progress: Progress) -> Calibration:
    """Find ranges on three quarters of the clips; choose rule and products on the rest.

    Raises:
        AmiraError: Too few clips to tell anything.
    """
    if len(clips) < MIN_CLIPS:
        raise AmiraError(
            f"calibrating '{forms.name}' on {corpus}: {len(clips)} clip{'s' * (len(clips) != 1)} cannot tell how far "
            f"activations reach on other speech; it takes {MIN_CLIPS} or more, of several speakers. Name more speech"
        )
    held_out, heard = clips[:HELD_OUT], clips[HELD_OUT:]
    products = forms.products()
    progress(f"{forms.name}: hearing {len(heard)} clips")
    factors = _factors(products, _observe(forms, forms.weights, heard))
    weights = SmoothedWeights(forms.weights, factors)
    progress(f"{forms.name}: hearing them again, in balance")
    found = _observe(forms, weights, heard)
    ranges: dict[Rule, dict[str, float]] = {
        "entropy": {name: seen.entropy() for name, seen in found.items()},
        "percentile": {name: seen.percentile() for name, seen in found.items()},
        "largest": {name: seen.largest for name, seen in found.items()},
    }
    reference = _said(forms, forms.write(forms.weights, float_linear, plain=True), held_out)

    def distance(chosen: Mapping[str, float]) -> Distance:
        return compare(reference, _said(forms, forms.write(weights, qdq_linear(chosen), plain=True), held_out))

    sweep: dict[Rule, dict[str, Distance]] = {rule: {} for rule in RULES}
    for name in found:
        for rule in RULES:
            sweep[rule][name] = distance({name: ranges[rule][name]})
        told = ", ".join(f"{sweep[rule][name].divergence:.3g} ({rule})" for rule in RULES)
        progress(f"{forms.name}: {name} alone in INT8 moves the output by {told}")
    rules = {name: min(RULES, key=lambda rule: sweep[rule][name].divergence) for name in found}
    best = {name: ranges[rule][name] for name, rule in rules.items()}
    alone = {name: sweep[rule][name].divergence for name, rule in rules.items()}
    together = {"all": distance(best)}
    float32: tuple[str, ...] = ()
    now = together["all"]
    while worst := sensitive(alone, float32, now):
        float32 += worst
        now = distance({name: value for name, value in best.items() if name not in float32})
        progress(f"{forms.name}: without {', '.join(worst)} all together move it by {now.divergence:.3g}")
    dynamic = _dynamic(
        forms,
        products,
        lambda ways: compare(reference, _said(forms, forms.write(weights, ways_linear(ways)), held_out)),
        progress,
    )
    progress(f"{forms.name}: ranges for ONNX Runtime's own form")
    return Calibration(
        sources=dict(forms.sources),
        corpus=corpus,
        clips=len(heard),
        held_out=len(held_out),
        ranges=ranges,
        rules=rules,
        factors={name: [float(f"{value:.4g}") for value in values] for name, values in factors.items()},
        float32=float32,
        native=native.static_ranges(forms, heard),
        sweep=sweep,
        together={**together, "chosen": now},
        dynamic=dynamic,
    )


def _dynamic(
    forms: Forms, products: Mapping[str, Linear], distance: Callable[[Mapping[str, Way]], Distance], progress: Progress
) -> Dynamic:
    """Change the way of one product after the other until all together are near enough."""
    exact: dict[str, Way] = dict.fromkeys(products, "float32")
    sweep: dict[Way, dict[str, Distance]] = {"tensor": {}, "row": {}}
    for name in products:
        for way, found in sweep.items():
            found[name] = distance({**exact, name: way})
        told = ", ".join(f"{found[name].divergence:.3g} ({way})" for way, found in sweep.items())
        progress(f"{forms.name}: {name} alone, scales found while running, moves the output by {told}")
    alone = {way: {name: each.divergence for name, each in found.items()} for way, found in sweep.items()}
    ways: dict[str, Way] = dict.fromkeys(products, "tensor")
    together = {"all": distance(ways)}
    now = together["all"]
    while now.divergence > ENOUGH_DYNAMIC and (change := worthwhile(products, alone, ways)):
        name, way = change
        ways[name] = way
        now = distance(ways)
        progress(f"{forms.name}: with {name} in {way}, all together move it by {now.divergence:.3g}")
    return Dynamic(ways=ways, sweep=sweep, together={**together, "chosen": now})


def worthwhile(
    products: Mapping[str, Linear], alone: Mapping[Way, Mapping[str, float]], ways: Mapping[str, Way]
) -> tuple[str, Way] | None:
    """The change of one product's way that lessens divergence most for the multiplications that it costs.

    Args:
        products: The matrices.
        alone: Way to product to its divergence alone.
        ways: What is chosen so far.

    Returns:
        Product and way; `None` where nothing lessens it.
    """
    worth: dict[tuple[str, Way], float] = {}
    for name, matrix in products.items():
        inputs, outputs = matrix.value.shape
        now = alone[ways[name]][name] if ways[name] != "float32" else 0.0
        worth[name, "float32"] = now / (inputs * outputs / 2)
        if ways[name] == "tensor":
            worth[name, "row"] = (now - alone["row"][name]) / (inputs * ROW_COST)
    best = max(worth, key=lambda change: worth[change])
    return best if worth[best] > 0 else None


def ways_linear(ways: Mapping[str, Way]) -> LinearWriter:
    """Writes each product in its way."""
    return dynamic_linear(
        [name for name, way in ways.items() if way == "float32"], [name for name, way in ways.items() if way == "row"]
    )


def sensitive(alone: Mapping[str, float], float32: Collection[str], together: Distance) -> tuple[str, ...]:
    """The products that are to be left out next: those that alone make a large share of what is left.

    Args:
        alone: Product to its divergence alone.
        float32: Those that are left out already.
        together: The others, all in INT8.
    """
    if together.divergence <= ENOUGH:
        return ()
    limit = LEFT_OUT_SHARE * together.divergence
    return tuple(name for name, divergence in alone.items() if name not in float32 and divergence > limit)


def compare(reference: Sequence[Float32], other: Sequence[Float32]) -> Distance:
    """The distance of outputs (frames, width) of the same clips."""
    frames = sum(len(row) for row in reference)
    if not all((row <= 0).all() for row in reference):  # hidden states
        error = sum(float(np.square(x - y).sum()) for x, y in zip(reference, other, strict=True))
        return Distance(divergence=error / sum(float(np.square(x).sum()) for x in reference), flipped=0.0)
    divergence = sum(float((np.exp(x) * (x - y)).sum()) for x, y in zip(reference, other, strict=True))
    flips = sum(int((x.argmax(1) != y.argmax(1)).sum()) for x, y in zip(reference, other, strict=True))
    return Distance(divergence=divergence / frames, flipped=flips / frames)


def _said(forms: Forms, model: Any, clips: Sequence[Float32]) -> list[Float32]:
    return Listener(model, [forms.output], forms.chunk_samples).all_of(clips, forms.output)


def _observe(forms: Forms, weights: WeightSource, clips: Sequence[Float32]) -> dict[str, Magnitudes]:
    """Magnitudes of the input of each product, by the product's name."""
    from onnx import TensorProto, helper

    inputs: dict[str, str] = {}

    def observing(graph: Any, x: str, matrix: Linear) -> str:
        inputs[matrix.name] = x
        return float_linear(graph, x, matrix)

    model = forms.write(weights, observing, plain=True)
    names = list(dict.fromkeys(inputs.values()))
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    listener = Listener(model, names, forms.chunk_samples)
    seen = {name: Magnitudes() for name in names}
    for clip in clips:
        for _, found in listener.runs(clip):
            for name in names:
                seen[name].add(found[name])
    return {product: seen[name] for product, name in inputs.items()}


def _factors(products: dict[str, Linear], seen: dict[str, Magnitudes]) -> dict[str, Float32]:
    """What the channels of each norm in front of a product are divided by."""
    found = {}
    for name, magnitudes in seen.items():
        layer = re.match(r"(layers\.\d+)[./](.+)", name)
        if layer is not None and layer[2] in NORM_OF:
            weights = np.abs(products[name].value).max(axis=1)
            found[f"{layer[1]}/{NORM_OF[layer[2]]}"] = balance(magnitudes.channels, weights)
        elif name in (STEM_PRODUCT, f"{STEM_PRODUCT}.down"):
            channels = magnitudes.channels.reshape(-1, WIDTH).max(axis=0)
            rows = np.abs(products[name].value).max(axis=1).reshape(-1, WIDTH).max(axis=0)
            found[STEM_NORM] = balance(channels, rows)
    return found
