"""The PyTorch twin against the ONNX encoder, and a training that stops and goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")
pytest.importorskip("safetensors", reason="safetensors is not installed (extra `train`)")

from pipelines.acoustic.tokens import read_symbols  # noqa: E402
from pipelines.errors import AmiraError  # noqa: E402
from pipelines.paths import models_dir  # noqa: E402
from training import exported, facts, frozen, loop  # noqa: E402
from training.config import Augmentation, Model, TrainingConfig  # noqa: E402
from training.evaluate import padded  # noqa: E402
from training.exported import load_exported, load_known  # noqa: E402
from training.heads import TokenHead  # noqa: E402
from training.loop import Trainer, ctc_loss, disagreement, mask_spans  # noqa: E402
from training.network import Network, factored  # noqa: E402
from training.pretrained import encoder_state  # noqa: E402
from training.tokens import TokenLogits  # noqa: E402


@pytest.fixture(scope="module")
def twin() -> Network:
    network = Network(Model()).eval()
    load_known(network, encoder_state())
    return network


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(samples) * 0.1).astype(np.float32)


def hidden(network: Network, samples: torch.Tensor, lengths: list[int], chunk: int | None = None) -> torch.Tensor:
    with torch.inference_mode():
        x, frames = network.stem(samples, torch.tensor(lengths))
        x, _ = network.layer_range(x, frames, chunk, 0, network.config.layers)
        return network.layer_norm(x)


@pytest.mark.models
def test_the_twin_is_the_encoder_also_beside_a_longer_clip(twin: Network) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(models_dir() / "moonshine-aed" / "encoder.fp32.onnx"))
    wave = noise(32_000)
    expected = session.run(None, {"input_values": wave[None]})[0][0]
    both = torch.zeros(2, 48_000)
    both[0, :32_000] = torch.from_numpy(wave)
    both[1] = torch.from_numpy(noise(48_000, 1))
    said = hidden(twin, both, [32_000, 48_000])[0, : len(expected)].numpy()
    assert np.abs(said - expected).max() < 1e-3


def test_a_frame_of_a_stream_hears_its_chunk_and_what_was_before_and_nothing_else() -> None:
    torch.manual_seed(0)
    network = Network(Model(streaming=True, layers=2, frozen_layers=0, left_frames=8)).eval()
    wave = torch.from_numpy(noise(384 * 32))[None]
    base = hidden(network, wave, [384 * 32], chunk=4)
    changed = wave.clone()
    changed[0, 384 * 16 : 384 * 17] += 1.0  # frame 16 is the first of chunk 4
    moved = (hidden(network, changed, [384 * 32], chunk=4) - base).abs().amax(-1)[0]
    assert (moved[:16] < 1e-5).all()  # no lookahead beyond the chunk
    assert (moved[16:20] > 1e-4).all()  # the whole chunk hears it
    # Two layers look back 8 frames before a chunk each, and the stem two frames: nothing is left of it after that.
    assert (moved[16 + 2 + 8 + 8 + 4 :] < 1e-5).all()


def test_ctc_loss_is_per_character_and_ignores_padding() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 30, 29)
    frames = torch.tensor([20, 30])
    alone = torch.nn.functional.ctc_loss(
        logits[0, :20].log_softmax(-1)[:, None],
        torch.tensor([[3, 4, 4]]),
        torch.tensor([20]),
        torch.tensor([3]),
        reduction="sum",
    )
    other = ctc_loss(logits[1:], frames[1:], [[5, 6]]) * 2
    assert float(ctc_loss(logits, frames, [[3, 4, 4], [5, 6]])) == pytest.approx(float(alone + other) / 5, rel=1e-5)


def test_masks_cover_about_the_share_that_was_asked_for() -> None:
    torch.manual_seed(0)
    x = mask_spans(torch.ones(50, 400, 64), Augmentation(time_masks=0.1, time_mask_frames=8, channel_masks=0.0))
    assert 0.07 < float((x == 0).float().mean()) < 0.11
    assert ((x == 0).all(-1) | (x == 1).all(-1)).all()  # whole frames


def test_halves_of_a_batch_that_say_the_same_agree_and_padding_does_not_count() -> None:
    torch.manual_seed(0)
    one, other = torch.randn(2, 20, 29), torch.randn(2, 20, 29)
    frames = torch.tensor([12, 20, 12, 20])
    assert float(disagreement(torch.cat((one, one)), frames)) == pytest.approx(0, abs=1e-6)
    found = disagreement(torch.cat((one, other)), frames)
    p, q = one.log_softmax(-1), other.log_softmax(-1)
    both = ((p.exp() - q.exp()) * (p - q)).sum(-1) / 2  # KL one way and the other, halved
    assert float(found) == pytest.approx(float(torch.cat((both[0, :12], both[1])).mean()), rel=1e-5)
    padded = other.clone()
    padded[0, 12:] += 5
    assert float(disagreement(torch.cat((one, padded)), frames)) == pytest.approx(float(found), rel=1e-6)


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    import soundfile

    rows = []
    for index in range(8):
        soundfile.write(tmp_path / f"{index}.wav", noise(16_000 + 1_000 * index, index), 16_000)
        rows.append({"audio": f"{index}.wav", "id": str(index), "text": "go on", "corpus": "noise"})
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "m.jsonl")


def test_a_stopped_training_goes_on_as_if_nothing_had_been(tmp_path: Path, corpus: str) -> None:
    def train(name: str, stops: list[int]) -> dict[str, torch.Tensor]:
        for stop in stops:
            trainer = Trainer(
                TrainingConfig(
                    name="t",
                    corpus=corpus,
                    dev=corpus,
                    model=Model(layers=2, frozen_layers=1),
                    steps=4,
                    warm_up_steps=2,
                    batch_s=4,
                    precision="fp32",
                    evaluate_every=2,
                ),
                tmp_path / name,
                tmp_path / "cache",
            )
            trainer.run(until=stop)
        return load_exported(tmp_path / name / "export")[0].state_dict()

    whole, parts = train("whole", [4]), train("parts", [2, 4])
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        torch.testing.assert_close(value, parts[name], rtol=0, atol=1e-6)
    start = encoder_state()
    assert not torch.equal(whole["layers.1.mlp.fc1.weight"], start["layers.1.mlp.fc1.weight"].half().float())
    assert torch.equal(whole["layers.0.mlp.fc1.weight"], start["layers.0.mlp.fc1.weight"])
    log = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if "wer" in entry] == [2, 4]


@pytest.mark.models
def test_upper_layers_learn_to_write_tokens_from_what_the_lower_ones_made_once(
    tmp_path: Path, corpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept is what the lower layers say in that copy's chunks; a stopped training goes on as it would have."""
    config = TrainingConfig(
        name="t", corpus=corpus, dev=corpus, units="tokens", copies=2, precision="fp32", evaluate_every=2,
        model=Model(layers=3, frozen_layers=2, streaming=True, chunk_frames=(7, 14), left_frames=20),
        steps=4, warm_up_steps=2, batch_s=4, dropout=0.1, init=(str(tmp_path / "below"),),
    )  # fmt: skip
    below = config.model_copy(update={"units": "characters", "copies": 0, "init": (), "steps": 1})
    Trainer(below, tmp_path / "t", tmp_path / "cache").run()
    (tmp_path / "t" / "export").rename(tmp_path / "below")
    monkeypatch.setattr(loop, "model_repo_dir", lambda: tmp_path)
    monkeypatch.setattr(exported, "model_repo_dir", lambda: tmp_path)
    trainer = Trainer(config, tmp_path / "whole", tmp_path / "cache")
    assert trainer.frozen is not None
    utterance = trainer.speech.utterances[5]
    kept, frames = trainer.frozen.batch([utterance], 0)
    wave = torch.from_numpy(trainer.speech.audio(utterance).astype(np.float32) / 32768)[None]
    network = trainer.network.eval()
    with torch.inference_mode():
        x, count = network.stem(wave, torch.tensor([utterance.samples]))
        x, _ = network.layer_range(x, count, 7, 0, 2)
    assert frames.tolist() == count.tolist()
    assert float((kept - x).abs().max()) < 2e-3 * float(x.abs().max())
    pair, longer = trainer.frozen.batch(trainer.speech.utterances[:2], 1)
    assert [trainer.frozen.chunk(copy) for copy in (0, 1)] == [7, 14]
    assert pair.shape[1] == int(longer.max())
    for row, end in zip(pair, longer.tolist(), strict=True):
        assert not row[end:].any()
        assert row[:end].any(dim=1).all()
    network.train()
    trainer.run()
    monkeypatch.setattr(frozen.Frozen, "_extract", None)  # the next ones find the files
    for stop in (2, 4):
        Trainer(config, tmp_path / "parts", tmp_path / "cache").run(until=stop)
    whole, parts = (load_exported(tmp_path / name / "export")[0] for name in ("whole", "parts"))
    assert isinstance(whole.head, TokenLogits)
    assert isinstance(parts.head, TokenLogits)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(value, parts.state_dict()[name], rtol=0, atol=1e-5)
    torch.testing.assert_close(whole.head.table, trainer.network.head.table)
    first = load_exported(tmp_path / "below")[0].state_dict()
    assert torch.equal(first["layers.1.mlp.fc1.weight"], whole.state_dict()["layers.1.mlp.fc1.weight"])
    assert not torch.equal(first["layers.2.mlp.fc1.weight"], whole.state_dict()["layers.2.mlp.fc1.weight"])
    about = json.loads((tmp_path / "whole" / "export" / "config.json").read_text("utf-8"))
    facts.measure(tmp_path / "whole" / "export", tmp_path / "cache")
    assert json.loads((tmp_path / "whole" / "export" / "config.json").read_text("utf-8")) == about
    own = exported.load_file(tmp_path / "whole" / "export" / "weights.safetensors")
    assert not [name for name in own if name.startswith(("conv", "layers.0", "layers.1"))]
    assert len(read_symbols(tmp_path / "whole" / "export" / "tokens.txt")) == 1 + len(own["head.tokens"])
    # Another cycle from there, each clip heard twice and masked more: over the same model, from the same files.
    changed = {"init": (str(tmp_path / "whole" / "export"),), "consistency_weight": 0.2, "steps": 1}
    masked = config.augmentation.model_copy(update={"time_masks": 0.3})
    second = Trainer(config.model_copy(update=changed | {"augmentation": masked}), tmp_path / "2", tmp_path / "cache")
    losses = second._learn(*next(second._prefetched()))
    assert float(losses["consistency"]) > 0
    second.run()
    again = json.loads((tmp_path / "2" / "export" / "config.json").read_text("utf-8"))
    assert again["over"] == about["over"] == "below"
    # So do fewer hours and more layers above.
    four = config.model.model_copy(update={"layers": 4})
    deep = config.model_copy(update={"model": four, "hours": 0.002, "steps": 1})
    third = Trainer(deep, tmp_path / "3", tmp_path / "cache")
    assert third.speech.hours < trainer.speech.hours
    third.run()
    assert len(load_exported(tmp_path / "3" / "export")[0].layers) == 4
    assert exported.base_of(tmp_path / "2" / "export", 3) == ""  # its third layer is its own


@pytest.mark.models
def test_all_layers_learn_to_write_tokens_with_the_module_that_a_head_alone_was_trained_as(
    tmp_path: Path, corpus: str
) -> None:
    config = TrainingConfig(
        name="t", corpus=corpus, dev=corpus, units="tokens", head="module", precision="fp32", evaluate_every=1,
        model=Model(frozen_layers=0), steps=2, warm_up_steps=1, batch_s=4, consistency_weight=0.2,
        init=("model-repo/moonshine-ctc-tokens",),
    )  # fmt: skip
    trainer = Trainer(config, tmp_path / "t", tmp_path / "cache")
    start, _ = own_head(Path("model-repo/moonshine-ctc-tokens"))
    assert isinstance(trainer.network.head, TokenHead)
    assert torch.equal(trainer.network.head.across.weight, start["head.across.weight"])
    trainer.run(until=1)
    Trainer(config, tmp_path / "t", tmp_path / "cache").run()
    own, kept = own_head(tmp_path / "t" / "export")
    assert set(start) | {"layers.0.mlp.fc1.weight", "conv1.weight", "groupnorm.bias"} <= set(own)
    assert "layer_norm.weight" not in own
    assert len(kept) == len(trainer.units.labels) - 1
    network, about = load_exported(tmp_path / "t" / "export")
    assert about["head"] == "module"
    samples, lengths = torch.from_numpy(noise(32_000))[None], torch.tensor([32_000])
    trained = Trainer(config, tmp_path / "t", tmp_path / "cache")
    trained._resume()
    trained.network.load_state_dict(trained.average)
    with torch.inference_mode():
        said, frames = network.eval()(samples, lengths)
        expected, count = trained.network.eval()(samples, lengths)
    assert frames.tolist() == count.tolist() == [(int(network.frames(lengths)) + 1) // 2]
    torch.testing.assert_close(said, expected, rtol=0, atol=0.05)  # half precision on disk, logits of up to 30


def own_head(folder: Path) -> tuple[dict[str, Any], list[int]]:
    """Weights of an exported folder, and its tokens."""
    own = exported.load_file(folder / "weights.safetensors")
    return {name: value.float() for name, value in own.items() if name != "head.tokens"}, own["head.tokens"].tolist()


def test_two_hearings_of_a_stream_are_in_chunks_of_lengths_of_their_own(tmp_path: Path, corpus: str) -> None:
    config = TrainingConfig(
        name="t", corpus=corpus, dev=corpus, steps=2, warm_up_steps=1, batch_s=4, precision="fp32", evaluate_every=2,
        model=Model(layers=1, frozen_layers=0, streaming=True, chunk_frames=(3, 5, 9)), consistency_weight=0.2,
    )  # fmt: skip
    trainer = Trainer(config, tmp_path / "t", tmp_path / "cache")
    lengths = set()
    for trainer.step in range(20):
        chunk = trainer._chunk(4)
        assert isinstance(chunk, torch.Tensor)
        first, second = chunk.view(2, 2).unbind()
        assert first.unique().numel() == second.unique().numel() == 1
        lengths.add(tuple(chunk.tolist()))
    assert len(lengths) > 3
    trainer.step = 0
    trainer.run()
    network, frames = trainer.network, torch.tensor([20, 17])
    both = network.mask(frames, 20, torch.tensor([3, 9]))
    assert torch.equal(both[:1], network.mask(frames, 20, 3)[:1])
    assert torch.equal(both[1:], network.mask(frames, 20, 9)[1:])


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"token_limit": 300}, "is for units"),
        ({"units": "tokens"}, "is for units"),
        ({"head": "module"}, "is for units"),
        ({"head": "module", "units": "tokens", "model": Model(frozen_layers=5)}, "what is frozen below them"),
        ({"head": "module", "units": "tokens", "model": Model(frozen_layers=0), "inter_layer": 6}, "inner loss"),
    ],
)
def test_the_module_is_for_tokens_of_whole_clips_and_layers_that_learn(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        TrainingConfig(name="t", **wrong)


@pytest.mark.models
def test_the_module_reads_the_highest_frozen_layer_from_its_copy(tmp_path: Path, corpus: str) -> None:
    """What a step makes of a copy is what it makes of the waveforms."""
    config = TrainingConfig(
        name="t", corpus=corpus, dev=corpus, units="tokens", head="module", precision="fp32", copies=1,
        model=Model(frozen_layers=4), steps=1, batch_s=4, dropout=0.0, evaluate_every=1,
        init=("model-repo/moonshine-ctc-tokens",), augmentation=Augmentation(time_masks=0.0, channel_masks=0.0),
    )  # fmt: skip
    trainer = Trainer(config, tmp_path / "t", tmp_path / "cache")
    x, frames, targets = next(trainer._prefetched())
    group = next(trainer._groups())
    samples, lengths = padded([trainer.speech.audio(each).astype(np.float32) / 32768 for each in group])
    trainer.network.eval()
    losses = []
    with torch.inference_mode():
        for made in (
            lambda: trainer._upper(x, frames, None, targets),
            lambda: trainer._losses(samples, samples, lengths, targets),
        ):
            torch.manual_seed(3)  # of the tokens that are weighed
            losses.append(float(made()["ctc"]))
    assert losses[0] == pytest.approx(losses[1], rel=5e-3)
    trainer.network.train()
    trainer.run()
    own, _ = own_head(tmp_path / "t" / "export")
    assert "layers.4.mlp.fc1.weight" in own
    assert not [name for name in own if name.startswith(("conv", "layers.3"))]


@pytest.mark.parametrize("wrong", [{"model": Model(frozen_layers=0)}, {"teacher": "package"}])
def test_copies_are_of_frozen_layers_and_without_a_teacher(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="copies needs frozen layers, and no teacher"):
        TrainingConfig(name="t", copies=1, **wrong)


def test_two_disturbed_hearings_and_a_late_teacher_train_and_lower_layers_learn_slower(
    tmp_path: Path, corpus: str
) -> None:
    config = TrainingConfig(
        name="t", corpus=corpus, dev=corpus, model=Model(layers=2, frozen_layers=0), steps=2, warm_up_steps=1,
        batch_s=4, precision="fp32", evaluate_every=2, consistency_weight=0.2, layer_decay=0.5, learning_rate=1e-3,
        augmentation=Augmentation(room_chance=0.5, equaliser_chance=0.5, stop_chance=0.5),
    )  # fmt: skip
    first = Trainer(config, tmp_path / "t", tmp_path / "cache")
    rates = {group["base"] for group in first.optimizer.param_groups}
    assert rates == {1e-3, 5e-4, 2.5e-4, config.head_learning_rate}  # top layer and norm, bottom layer, stem, head
    first.run()
    student = config.model_copy(
        update={
            "model": Model(layers=1, frozen_layers=0, streaming=True, chunk_frames=(7,)),
            "teacher": str(tmp_path / "t" / "export"), "teacher_weight": 1.0, "consistency_weight": 0.0,
        }
    )  # fmt: skip
    samples, lengths = torch.from_numpy(noise(32_000))[None], torch.tensor([32_000])

    def distance(delay: int) -> float:
        torch.manual_seed(0)
        late = Trainer(student.model_copy(update={"teacher_delay": delay}), tmp_path / "s", tmp_path / "cache")
        with torch.no_grad():
            return float(late._losses(samples, samples, lengths, [[3]])["teacher"])

    assert distance(3) != pytest.approx(distance(0))
    Trainer(student.model_copy(update={"teacher_delay": 3}), tmp_path / "s", tmp_path / "cache").run()
    assert (tmp_path / "s" / "export" / "weights.safetensors").is_file()


def test_a_training_writes_pieces_of_words(tmp_path: Path, corpus: str) -> None:
    """The head has the units' size, the exported labels are the pieces, and the network can be loaded again."""
    pytest.importorskip("sentencepiece", reason="sentencepiece is not installed (extra `train`)")
    config = TrainingConfig(
        name="t", corpus=corpus, dev=corpus, units="bpe", bpe_size=32, model=Model(layers=1, frozen_layers=0),
        steps=2, warm_up_steps=1, batch_s=4, precision="fp32", evaluate_every=2,
    )  # fmt: skip
    Trainer(config, tmp_path / "t", tmp_path / "cache").run()
    labels = [line.split(" ")[0] for line in (tmp_path / "t" / "export" / "tokens.txt").read_text().splitlines()]
    network, _ = load_exported(tmp_path / "t" / "export")
    assert labels[0] == "<blank>"
    assert len(labels) == 32 == network.head.out_features
    assert any(label.startswith("\u2581") and len(label) > 2 for label in labels)
    wrong = config.model_copy(update={"units": "characters", "teacher": str(tmp_path / "t" / "export")})
    with pytest.raises(AmiraError, match="writes 32 other units than this model's 29"):
        Trainer(wrong.model_copy(update={"teacher_weight": 1.0}), tmp_path / "u", tmp_path / "cache")


def test_a_convolution_of_full_rank_is_its_factors() -> None:
    torch.manual_seed(0)
    small = {"conv2.weight": torch.randn(12, 3, 4), "conv2.bias": torch.randn(12)}
    parts = factored(small, (12, 0))
    x = torch.randn(2, 3, 40)
    whole = torch.nn.functional.conv1d(x, small["conv2.weight"], small["conv2.bias"], stride=3)
    down = torch.nn.functional.conv1d(x, parts["conv2.down.weight"], stride=3)
    up = torch.nn.functional.conv1d(down, parts["conv2.up.weight"], parts["conv2.up.bias"])
    torch.testing.assert_close(up, whole, rtol=1e-4, atol=1e-4)
    assert factored({**small, **parts}, (12, 0)) == {}
    assert parts["conv2.down.weight"].shape == (12, 3, 4)
    fewer = factored(small, (5, 0))
    assert fewer["conv2.up.weight"].shape == (12, 5, 1)
    again = factored({**small, **parts}, (5, 0))  # from the factors: what the whole convolution would have given
    for made in (fewer, again):
        torch.testing.assert_close(again["conv2.up.bias"], small["conv2.bias"])
        assert made["conv2.down.weight"].shape == (5, 3, 4)
    product = [
        torch.tensordot(made["conv2.up.weight"][..., 0], made["conv2.down.weight"], 1) for made in (fewer, again)
    ]
    torch.testing.assert_close(*product, rtol=1e-3, atol=1e-4)
