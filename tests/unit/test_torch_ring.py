"""Steps in rings say what the graph says whose states are copied; on the CPU, in plain PyTorch."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from pipelines.acoustic.ort_stream import OrtStreaming  # noqa: E402
from pipelines.acoustic.ring_plain import PlainOps  # noqa: E402
from pipelines.acoustic.ring_step import RingOps, ring_step  # noqa: E402
from pipelines.acoustic.ring_weights import STATES, RingPool, RingWeights, ring_weights  # noqa: E402
from pipelines.acoustic.tokens import TokenList  # noqa: E402
from pipelines.acoustic.torch_graph import TorchGraph  # noqa: E402
from pipelines.acoustic.torch_ring import RingStreaming, has_triton, in_rings, weights_of  # noqa: E402
from pipelines.acoustic.torch_session import TorchSession  # noqa: E402
from pipelines.acoustic.torch_stream import FIRST_ROWS, TorchStreaming  # noqa: E402
from pipelines.contracts import AudioBatch  # noqa: E402
from pipelines.errors import AmiraError  # noqa: E402
from pipelines.models.model_card import ctc_card  # noqa: E402
from pipelines.paths import models_dir  # noqa: E402
from tests.random_stream import LABELS, write_random_stream  # noqa: E402
from tests.small_ctc import write_small_stream  # noqa: E402

LAYERS, LEFT, FRAMES = 2, 10, 4
YEAR = 1_300_000_007
"""Of frames, about."""
KERNELS = has_triton() and (torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1")
CARD = """
family = "ctc"
name = "random-stream"
summary = "Random weights"
language = "en"
licence = "Apache-2.0"

[files]
plain = "model.onnx"

[vocabulary]
file = "tokens.txt"

[input]
name = "samples"

[output]
name = "log_probs"
shift_samples = 384

[streaming]
chunk_frames = 4
lookahead_samples = 0
""" + "".join(
    f'\n[[streaming.states]]\ninput = "{name}"\noutput = "{name.replace("state", "next")}"\n' for name in STATES
)


def shapes(left: int = LEFT) -> dict[str, tuple[int, ...]]:
    cache = (1, LAYERS, left, 416)
    return dict(zip(STATES, [(1, 511), cache, cache, (1, 1)], strict=True))


def zeros() -> list[torch.Tensor]:
    kinds = (torch.float32, torch.float32, torch.float32, torch.int64)
    return [torch.zeros(shape, dtype=kind) for shape, kind in zip(shapes().values(), kinds, strict=True)]


def encoder(folder: Path, kind: torch.dtype = torch.float32) -> tuple[TorchGraph, RingWeights]:
    graph = TorchGraph(write_random_stream(folder / "model.onnx", layers=LAYERS, left=LEFT), "cpu", kind)
    weights = ring_weights(graph, shapes())
    assert weights is not None
    return graph, weights


def model(folder: Path, kind: type) -> RingStreaming | TorchStreaming | OrtStreaming:
    import onnxruntime

    (folder / "model-card.toml").write_text(CARD, "utf-8")
    path, card = folder / "model.onnx", ctc_card(folder)
    tokens = TokenList(["", *(chr(97 + label) for label in range(LABELS - 1))], 0)
    assert card.streaming is not None
    if kind is OrtStreaming:
        return OrtStreaming(card, card.streaming, tokens, onnxruntime.InferenceSession(path), FRAMES)
    session = TorchSession(path, "cpu", torch.float32, compiled=False)
    weights = weights_of(card.streaming, session)
    assert weights is not None
    return RingStreaming(card, card.streaming, tokens, session, FRAMES, 2, weights, PlainOps())


@torch.inference_mode()
def worst(ops: RingOps, graph: TorchGraph, weights: RingWeights, frames: int, steps: int) -> float:
    """The largest difference from the graph alone, of three streams of which some are heard at a step and one anew."""
    rng = np.random.default_rng(0)
    rows, states, found = [3, 1, 4], [zeros() for _ in range(3)], 0.0
    pool = RingPool.empty(weights, 5, frames)
    pool.rings.fill_(torch.nan)  # what nobody wrote, nobody may look at
    for step in range(steps):
        if step in (2, 5):
            pool.forget(rows[step % 3])
            states[step % 3] = zeros()
        heard = rng.permutation(3)[: rng.integers(1, 4)]
        samples = torch.from_numpy((0.3 * rng.standard_normal((len(heard), frames * 384))).astype(np.float32))
        made = ring_step(ops, weights, pool, samples, torch.tensor([rows[at] for at in heard]))
        assert made.isfinite().all()
        for row, at in enumerate(heard):
            expected, *states[at] = graph(samples[row : row + 1], *states[at])
            found = max(found, float((made[row] - expected[0].float()).abs().max()))
    return found


@pytest.mark.parametrize("frames", [1, FRAMES])
def test_rings_remember_what_copies_do(tmp_path: Path, frames: int) -> None:
    assert worst(PlainOps(), *encoder(tmp_path), frames, steps=16) < 1e-4


def test_positions_have_no_end(tmp_path: Path) -> None:
    """After a year, a stream says what it says after seconds."""
    _, weights = encoder(tmp_path)
    rng = np.random.default_rng(1)
    chunks = torch.from_numpy((0.3 * rng.standard_normal((9, 2, FRAMES * 384))).astype(np.float32))
    pool = RingPool.empty(weights, 2, FRAMES)
    rows = torch.arange(2)
    for step, samples in enumerate(chunks):
        if step == 1:  # by the last step, what was before is out of sight of all layers
            pool.frames[1] += YEAR
            pool.rings[:, 1] = 0
        samples[1] = samples[0]
        made = ring_step(PlainOps(), weights, pool, samples, rows)
    assert YEAR % pool.rings.shape[-2]  # its places are others
    torch.testing.assert_close(made[1], made[0], atol=1e-4, rtol=0)


@pytest.mark.skipif(not KERNELS, reason="Triton and a GPU are not there; TRITON_INTERPRET=1 needs Triton alone")
@pytest.mark.parametrize("frames", [1, FRAMES])
def test_kernels_do_what_is_plain(tmp_path: Path, frames: int) -> None:
    if torch.cuda.is_available():
        pytest.skip("the graph beside them is on the CPU: experiments/032-gpu/step.py compares on a GPU")
    from pipelines.acoustic.ring_triton import TritonOps, Tuning

    ops = TritonOps(Tuning(plain_by_cublas=False))
    assert worst(ops, *encoder(tmp_path), frames, steps=3) < 1e-4


def test_streams_end_and_rows_are_used_again(tmp_path: Path) -> None:
    """Steps of some of three streams, two at most together, the last chunk a short one; then others in their rows."""
    encoder(tmp_path)
    alone, together = model(tmp_path, OrtStreaming), model(tmp_path, RingStreaming)
    rng = np.random.default_rng(1)
    for _ in range(2):
        streams = [(alone.open(), together.open()) for _ in range(3)]
        for step in range(5):
            heard = rng.permutation(3)[: rng.integers(1, 4)] if step < 4 else np.arange(3)
            size = together.chunk_samples - (700 if step == 4 else 0)
            chunks = (0.3 * rng.standard_normal((len(heard), together.chunk_samples))).astype(np.float32)
            found = together.infer_chunk(
                [streams[at][1] for at in heard], AudioBatch(chunks, np.full(len(heard), size))
            )
            for row, at in enumerate(heard):
                one = AudioBatch(chunks[row : row + 1], np.array([size]))
                expected = alone.infer_chunk([streams[at][0]], one)
                np.testing.assert_allclose(found.values[row], expected.values[0], atol=1e-4)
        for _, state in streams:
            state.close()


def test_the_pool_grows(tmp_path: Path) -> None:
    encoder(tmp_path)
    rings = model(tmp_path, RingStreaming)
    chunk = AudioBatch(np.full((1, rings.chunk_samples), 0.1, np.float32), np.array([rings.chunk_samples]))
    first = rings.open()
    before = rings.infer_chunk([first], chunk).values.copy()
    states = [rings.open() for _ in range(FIRST_ROWS)]
    assert len({state.row for state in (first, *states)}) == FIRST_ROWS + 1
    again, fresh = (rings.infer_chunk([state], chunk).values.copy() for state in (first, states[-1]))
    np.testing.assert_allclose(fresh, before, atol=1e-5)
    assert np.abs(again - before).max() > 1e-3


@pytest.mark.models
@torch.inference_mode()
def test_our_model_says_what_onnx_runtime_does() -> None:
    import onnxruntime

    folder = models_dir() / "stream-ctc-server"
    if not folder.is_dir():
        pytest.skip("stream-ctc-server is not built: amira models build")
    card = ctc_card(folder)
    path, tokens = folder / card.files["plain"], TokenList(["", *"abcdefghijklmnopqrstuvwxyz' "], 0)
    session = TorchSession(path, "cpu", torch.float32, compiled=False)
    assert card.streaming is not None
    frames = card.streaming.chunk_frames
    weights = weights_of(card.streaming, session)
    assert weights is not None
    models = (
        OrtStreaming(card, card.streaming, tokens, onnxruntime.InferenceSession(path), frames),
        RingStreaming(card, card.streaming, tokens, session, frames, 2, weights, PlainOps()),
    )
    states = [[model.open(), model.open()] for model in models]
    rng = np.random.default_rng(0)
    for _ in range(card.streaming.chunk_frames + 9):  # the ring comes round
        chunks = AudioBatch(
            (0.1 * rng.standard_normal((2, models[0].chunk_samples))).astype(np.float32),
            np.full(2, models[0].chunk_samples),
        )
        expected, found = (model.infer_chunk(each, chunks).values for model, each in zip(models, states, strict=True))
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_other_graphs_have_no_rings(tmp_path: Path) -> None:
    card = ctc_card(write_small_stream(tmp_path))
    session = TorchSession(tmp_path / card.files["plain"], "cpu", torch.float32, compiled=False)
    assert card.streaming is not None
    with pytest.raises(AmiraError, match="is not one of our streaming models"):
        in_rings(card, card.streaming, TokenList(["", "a"], 0), session, 4, 2)
