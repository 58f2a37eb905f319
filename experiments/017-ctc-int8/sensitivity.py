"""Which matrices of `moonshine-ctc` mind being INT8: one at a time, and all together.

    python experiments/017-ctc-int8/sensitivity.py            # measures and writes result.json
    python experiments/017-ctc-int8/sensitivity.py --show     # prints the table of result.json

Each form of the graph hears the same clips of the training corpora. What counts is how the log-probabilities move
from FP32's: the mean divergence of a frame's labels, and how many frames have another best label.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from harness.corpus import load_corpus
from harness.fingerprint import fingerprint
from pipelines.acoustic.sessions import EXACT_INT8
from pipelines.models import build_ctc, ctc_graph, graph, source, trained
from pipelines.models.fold import fold, read_ort
from pipelines.models.moonshine import Weights
from pipelines.paths import model_repo_dir, models_dir

RESULT = Path(__file__).with_name("result.json")
MODEL = "moonshine-ctc"
CORPUS, CLIPS = "shared:train", 10


def main() -> None:
    """Measure, or show what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="print the stored result")
    if not parser.parse_args().show:
        RESULT.write_text(json.dumps(measure(), indent=1) + "\n", "utf-8")
    show(json.loads(RESULT.read_text("utf-8")))


def measure() -> dict[str, Any]:
    """The divergence of each form."""
    package = Weights.of_encoder(fold(read_ort(source.verified(source.ENCODER))))
    weights = trained.TrainedWeights(trained.load(model_repo_dir() / MODEL / build_ctc.WEIGHTS), package)
    clips = [
        np.frombuffer(clip.pcm16(), "<i2").astype(np.float32)[None] / 32_768
        for clip in load_corpus(CORPUS).select(max_clips=CLIPS, seed=0).clips
    ]
    names: list[str] = []

    def listing(writer: graph.GraphWriter, x: str, matrix: Any) -> str:
        names.append(matrix.name)
        return graph.float_linear(writer, x, matrix)

    reference = _run(ctc_graph.ctc_graph(weights, listing), clips)
    forms = {name: [other for other in names if other != name] for name in names} | {"all": []}
    found = {}
    for form, float32 in forms.items():
        model = ctc_graph.ctc_graph(weights, graph.mixed_linear(graph.integer_linear, float32))
        found[form] = _distance(reference, _run(model, clips))
        print(form, found[form], flush=True)
    return {"fingerprint": fingerprint(models_dir(), [MODEL]), "corpus": CORPUS, "clips": CLIPS, "forms": found}


def _run(model: Any, clips: list[np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(EXACT_INT8, "1")
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [session.run(["log_probs"], {"samples": clip, "lengths": np.array([clip.size])})[0][0] for clip in clips]


def _distance(a: list[np.ndarray], b: list[np.ndarray]) -> dict[str, float]:
    frames = sum(len(row) for row in a)
    divergence = sum(float((np.exp(x) * (x - y)).sum()) for x, y in zip(a, b, strict=True))
    flips = sum(int((x.argmax(axis=1) != y.argmax(axis=1)).sum()) for x, y in zip(a, b, strict=True))
    return {"divergence_nats": divergence / frames, "flipped": flips / frames}


def show(result: dict[str, Any]) -> None:
    """Print the forms, the worst first."""
    print("| INT8 | divergence of a frame, mnat | frames with another best label, % |")
    print("|---|---:|---:|")
    for name, row in sorted(result["forms"].items(), key=lambda item: -item[1]["divergence_nats"]):
        print(f"| {name} | {1e3 * row['divergence_nats']:.3f} | {100 * row['flipped']:.2f} |")


if __name__ == "__main__":
    main()
