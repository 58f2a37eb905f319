"""The plain graphs in PyTorch say what ONNX Runtime says; on the CPU, where nothing is captured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from pipelines.acoustic.ort_ctc import OrtCtc  # noqa: E402
from pipelines.acoustic.ort_stream import OrtStreaming  # noqa: E402
from pipelines.acoustic.tokens import TokenList  # noqa: E402
from pipelines.acoustic.torch_graph import TorchGraph  # noqa: E402
from pipelines.acoustic.torch_session import TorchSession  # noqa: E402
from pipelines.acoustic.torch_stream import FIRST_ROWS, TorchStreaming  # noqa: E402
from pipelines.contracts import AudioBatch  # noqa: E402
from pipelines.errors import AmiraError  # noqa: E402
from pipelines.memory import FreshMemory  # noqa: E402
from pipelines.models.model_card import ctc_card  # noqa: E402
from pipelines.paths import models_dir  # noqa: E402
from pipelines.registry import Context  # noqa: E402
from tests.small_ctc import LABELS, write_small_ctc, write_small_stream  # noqa: E402


def noise(*shape: int) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal(shape) * 0.1).astype(np.float32)


def of(folder: Path, form: str, dtype: torch.dtype | None):
    """A whole-clip or streaming model, in PyTorch or, without a dtype, in ONNX Runtime."""
    import onnxruntime

    card = ctc_card(folder)
    path = folder / card.files[form]
    session = onnxruntime.InferenceSession(path) if dtype is None else TorchSession(path, "cpu", dtype, compiled=False)
    if card.streaming is not None and dtype is not None:
        return TorchStreaming(card, card.streaming, TokenList(LABELS, 0), session, 4, most_streams=2)
    if card.streaming is not None:
        return OrtStreaming(card, card.streaming, TokenList(LABELS, 0), session, 4)
    with FreshMemory.open(Context(models_dir(), str(folder), 1, {})) as buffers:
        return OrtCtc(card.whole_clip(), TokenList(LABELS, 0), session, buffers)


@pytest.mark.models
@pytest.mark.parametrize(("name", "limit"), [("float32", 1e-4), ("bfloat16", 1.0)])
def test_whole_clips_of_different_lengths(name: str, limit: float) -> None:
    folder = models_dir() / "moonshine-ctc"
    if not folder.is_dir():
        pytest.skip("moonshine-ctc is not built: amira models build")
    batch = AudioBatch(noise(2, 16_000), np.array([16_000, 9_000]))
    expected = of(folder, "plain", None).infer(batch)
    found = of(folder, "plain", getattr(torch, name)).infer(batch)
    assert found.lengths.tolist() == expected.lengths.tolist()
    for row, frames in enumerate(expected.lengths):
        assert np.abs(found.values[row, :frames] - expected.values[row, :frames]).max() < limit


@pytest.mark.models
def test_streams_remember() -> None:
    folder = models_dir() / "stream-ctc-server"
    if not folder.is_dir():
        pytest.skip("stream-ctc-server is not built: amira models build")
    said = []
    for dtype in (None, torch.float32):
        model = of(folder, "plain", dtype)
        states = [model.open(), model.open()]
        chunks = noise(3, 2, model.chunk_samples)
        sizes = np.full(2, model.chunk_samples)
        said.append([model.infer_chunk(states, AudioBatch(chunk, sizes)).values.copy() for chunk in chunks])
    np.testing.assert_allclose(said[1], said[0], atol=1e-3)


def test_streams_come_and_go_in_any_company(tmp_path: Path) -> None:
    """Three streams, of which some are heard at a step, in steps of two at most; each hears what it hears alone."""
    folder = write_small_stream(tmp_path)
    alone, together = of(folder, "plain", None), of(folder, "plain", torch.float32)
    rng = np.random.default_rng(1)
    for _ in range(3):
        streams = [(alone.open(), together.open()) for _ in range(3)]
        for step in range(6):
            heard = rng.permutation(3)[: rng.integers(1, 4)] if step < 5 else np.arange(3)
            chunks = noise(len(heard), together.chunk_samples) * rng.uniform(0.5, 2)
            size = together.chunk_samples if step < 5 else together.chunk_samples - 700
            found = together.infer_chunk(
                [streams[at][1] for at in heard], AudioBatch(chunks, np.full(len(heard), size))
            )
            for row, at in enumerate(heard):
                one = AudioBatch(chunks[row : row + 1], np.array([size]))
                expected = alone.infer_chunk([streams[at][0]], one)
                np.testing.assert_allclose(found.values[row], expected.values[0], atol=1e-4)
        for _, state in streams:
            state.close()


def test_rows_are_given_back_and_the_pool_grows(tmp_path: Path) -> None:
    model = of(write_small_stream(tmp_path), "plain", torch.float32)
    chunk = AudioBatch(noise(1, model.chunk_samples), np.array([model.chunk_samples]))
    first = model.open()
    before = model.infer_chunk([first], chunk).values.copy()
    states = [model.open() for _ in range(FIRST_ROWS)]  # more than there is room for
    assert len({state.row for state in (first, *states)}) == FIRST_ROWS + 1
    again, fresh = (model.infer_chunk([state], chunk).values.copy() for state in (first, states[-1]))
    np.testing.assert_allclose(fresh, before, atol=1e-6)
    assert np.abs(again - before).max() > 1e-3  # it remembers, also in the larger pool
    free = len(model.free_rows)
    for state in states:
        state.close()
        state.close()  # twice is once
    del first
    assert len(model.free_rows) == free + FIRST_ROWS + 1


def test_the_largest_step_is_a_size_that_is_ready(tmp_path: Path) -> None:
    card = ctc_card(write_small_stream(tmp_path))
    session = TorchSession(tmp_path / card.files["plain"], "cpu", torch.float32, compiled=False)
    assert card.streaming is not None
    model = TorchStreaming(card, card.streaming, TokenList(LABELS, 0), session, 4, most_streams=3)
    model.warm_up()
    ready = set(model._ready)
    chunks = AudioBatch(noise(3, model.chunk_samples), np.full(3, model.chunk_samples))
    model.infer_chunk([model.open() for _ in range(3)], chunks)
    assert set(model._ready) == ready


@pytest.mark.parametrize("write", [write_small_ctc, write_small_stream])
def test_models_of_others(write, tmp_path: Path) -> None:
    folder = write(tmp_path)
    batch = AudioBatch(noise(1, 8_000), np.array([8_000]))
    expected, found = (of(folder, "plain", dtype).infer(batch).values for dtype in (None, torch.float32))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_traced_run_is_the_same(tmp_path: Path) -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = TorchGraph(write_small_ctc(tmp_path) / "model.onnx", "cpu", torch.float32)
    inputs = (torch.from_numpy(noise(1, 8_000)), torch.tensor([8_000]))
    traced = make_fx(graph)(*inputs)
    torch.testing.assert_close(traced(*inputs), graph(*inputs))


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    import onnx

    folder = write_small_ctc(tmp_path)
    model = onnx.load(folder / "model.onnx")
    model.graph.node[0].op_type = "Identity2"
    onnx.save(model, folder / "model.onnx")
    with pytest.raises(AmiraError, match=r"Identity2.*acoustic/ort@fp32"):
        TorchGraph(folder / "model.onnx", "cpu", torch.float32)
