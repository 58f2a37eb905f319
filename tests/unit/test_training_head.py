"""The head on features that are computed once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")
pytest.importorskip("safetensors", reason="safetensors is not installed (extra `train`)")

from pipelines.acoustic.tokens import read_symbols  # noqa: E402
from pipelines.errors import AmiraError  # noqa: E402
from pipelines.models import trained  # noqa: E402
from pipelines.models.fold import fold, read_ort  # noqa: E402
from pipelines.models.moonshine import WIDTH, Weights  # noqa: E402
from pipelines.models.source import DECODER, verified  # noqa: E402
from pipelines.models.token_head import with_units  # noqa: E402
from training import tokens  # noqa: E402
from training.config import Model  # noqa: E402
from training.data import Speech, load_speech  # noqa: E402
from training.exported import load_known  # noqa: E402
from training.features import LAYERS, Features, Together, batch_of  # noqa: E402
from training.head import export_tokens, of_tokens, rate, train  # noqa: E402
from training.heads import HEAD, Head, TokenHead  # noqa: E402
from training.losses import ctc_loss, disagreement  # noqa: E402
from training.network import Network  # noqa: E402
from training.pretrained import encoder_state  # noqa: E402
from training.tokens import TokenLogits  # noqa: E402


@pytest.fixture
def speech(tmp_path: Path) -> Speech:
    import soundfile

    rng, rows = np.random.default_rng(0), []
    for index in range(6):
        soundfile.write(tmp_path / f"{index}.wav", 0.1 * rng.standard_normal(16_000 + 1_000 * index), 16_000)
        rows.append({"audio": f"{index}.wav", "id": str(index), "text": "go on", "corpus": "noise"})
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_speech(str(tmp_path / "m.jsonl"), tmp_path / "cache")


@pytest.mark.models
def test_features_are_what_the_encoder_says_of_a_clip_alone_and_come_from_the_file(
    speech: Speech, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = Features(speech, speech.utterances, tmp_path / "cache")
    network = Network(Model(layers=max(LAYERS))).eval()
    load_known(network, encoder_state())
    for utterance in speech.utterances:
        wave = torch.from_numpy(speech.audio(utterance).astype(np.float32) / 32768)[None]
        with torch.inference_mode():
            x, frames = network.stem(wave, torch.tensor([utterance.samples]))
            _, kept = network.layer_range(x, frames, None, 0, max(LAYERS), LAYERS)
            expected = torch.cat([torch.nn.functional.layer_norm(kept[each], (WIDTH,)) for each in LAYERS], -1)[0]
        assert np.abs(features.of(utterance) - expected.numpy()).max() < 0.02  # half precision, numbers of up to 20
    monkeypatch.setattr(Features, "_extract", None)
    again = Features(speech, speech.utterances, tmp_path / "cache")
    assert np.array_equal(again.of(speech.utterances[3]), features.of(speech.utterances[3]))


@pytest.mark.models
def test_a_clip_beside_a_longer_one_is_the_clip_alone(speech: Speech, tmp_path: Path) -> None:
    features = Features(speech, speech.utterances, tmp_path / "cache")
    torch.manual_seed(0)
    short, long = speech.utterances[0], speech.utterances[-1]
    x, frames, real = batch_of(features, [short, long])
    alone, _, own = batch_of(features, [short])
    for head in (Head(torch.nn.Linear(HEAD, 29)).eval(), of_tokens(speech.utterances)[0].eval()):
        with torch.inference_mode():
            by_itself = head(alone, own)[0]
            beside = head(x, real)[0, : len(by_itself)]
        assert len(by_itself) == -(-int(frames[0]) // head.stride)
        torch.testing.assert_close(beside, by_itself, rtol=0, atol=1e-4)


@pytest.mark.models
def test_an_exported_head_is_the_head(speech: Speech, tmp_path: Path) -> None:
    """`pipelines.models.token_head` says its labels from the states as the head itself does."""
    torch.manual_seed(0)
    head, units = of_tokens(speech.utterances)
    torch.nn.init.normal_(head.units.bias)
    export_tokens(tmp_path, head.eval(), units, {})
    embedding = Weights.of_decoder(fold(read_ort(verified(DECODER)))).embedding().value.T
    made = with_units(trained.load(tmp_path / "weights.safetensors"), embedding)
    state = torch.randn(1, 1, len(LAYERS) * WIDTH)
    with torch.inference_mode():
        wanted = head(state, torch.ones(1, 1, 1))[0, 0].numpy()
        states = head.states(state, torch.ones(1, 1, 1))[0, 0].numpy()
    np.testing.assert_allclose(made["head.weight"] @ states + made["head.bias"], wanted, rtol=0.01, atol=0.02)
    labels = read_symbols(tmp_path / "tokens.txt")
    assert labels == list(units.labels)
    assert len(labels) == len(made["head.bias"])


def test_weighing_all_tokens_is_the_plain_loss_and_fewer_are_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head = TokenHead(TokenLogits(torch.randn(50, WIDTH))).eval()
    x, frames = torch.randn(2, 41, len(LAYERS) * WIDTH), torch.tensor([41, 30])
    real = (torch.arange(41)[None] < frames[:, None]).float()[..., None]
    targets = [[7, 7, 50, 1], [3]]
    plain = ctc_loss(head(x, real), torch.tensor([21, 15]), targets)
    torch.testing.assert_close(head.loss(x, frames, real, targets), plain)
    monkeypatch.setattr(tokens, "OTHERS", 5)
    assert head.loss(x, frames, real, targets) < plain


def test_what_a_step_weighs_is_as_likely_as_the_correction_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted over many steps; and with all tokens in each step there is nothing to correct."""
    monkeypatch.setattr(tokens, "OTHERS", 20)
    torch.manual_seed(0)
    counts = torch.arange(100.0) ** 2 / 50
    units = TokenLogits(torch.randn(100, WIDTH), counts, share=0.01)
    seen = torch.zeros(100)
    for _ in range(2_000):
        said = (torch.poisson(counts * 0.01) > 0).nonzero().flatten()
        others = torch.multinomial(units.chances, 20)
        seen[torch.cat((said, others)).unique()] += 1
    torch.testing.assert_close(units.presence.exp(), seen / 2_000, rtol=0.1, atol=0.03)
    states = torch.randn(1, 3, WIDTH)
    torch.testing.assert_close(
        units(states)[..., 1:] - units.presence, units._logits(states, torch.arange(100))[..., 1:]
    )
    monkeypatch.setattr(tokens, "OTHERS", 1_500)
    assert not TokenLogits(torch.randn(100, WIDTH), counts).presence.any()


@pytest.mark.models
@pytest.mark.parametrize(("writes_tokens", "twice_from"), [(False, None), (True, None), (True, 10)])
def test_a_stopped_training_goes_on_as_if_nothing_had_been(
    speech: Speech, tmp_path: Path, writes_tokens: bool, twice_from: int | None
) -> None:
    features, said = Features(speech, speech.utterances, tmp_path / "cache"), speech.utterances
    for name, stops in (("whole", [40]), ("parts", [20, 40])):
        for until in stops:
            train(
                said,
                features,
                said,
                features,
                tmp_path / name,
                1,
                steps=40,
                every=20,
                until=until,
                tokens=writes_tokens,
                twice_from=twice_from,
            )
    whole, parts = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "parts"))
    for name, value in whole["average"].items():
        torch.testing.assert_close(value, parts["average"][name], rtol=0, atol=1e-6)
    log = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [20, 40]
    assert log[1]["ctc"] < log[0]["ctc"]  # it learns what is always said
    assert set(log[1]["wer"]) == {"noise", "noise empty"}
    assert log[1]["hours"] == round(speech.hours, 2)
    assert (tmp_path / "parts" / "export" / "weights.safetensors").is_file() == writes_tokens
    if writes_tokens:
        about = json.loads((tmp_path / "parts" / "export" / "config.json").read_text("utf-8"))
        assert about["facts"]["training"].get("twice_from") == twice_from
    with pytest.raises(AmiraError, match="other units"):
        train(said, features, said, features, tmp_path / "whole", 1, steps=60, tokens=not writes_tokens)


@pytest.mark.models
def test_corpora_together_know_each_clip_by_its_corpus(speech: Speech, tmp_path: Path) -> None:
    other = Speech(speech.pcm, [replace(each, corpus="other") for each in speech.utterances[::-1]])
    parts = [(each, Features(each, each.utterances, tmp_path / "cache")) for each in (speech, other)]
    together = Together(parts)
    for part, features in parts:
        for each in part.utterances:
            assert np.array_equal(together.of(each), features.of(each))


@pytest.mark.models
def test_two_hearings_of_a_clip_are_masked_in_two_ways_and_drawn_together(
    speech: Speech, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, said = Features(speech, speech.utterances, tmp_path / "cache"), speech.utterances
    heard: list[tuple[torch.Tensor, torch.Tensor]] = []

    def noted(logits: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        heard.append((logits.detach(), frames))
        return disagreement(logits, frames)

    monkeypatch.setattr("training.head.disagreement", noted)
    monkeypatch.setattr("training.head.WARM_UP", 1)
    for weight in (0.0, 0.2):
        monkeypatch.setattr("training.head.CONSISTENCY", weight)
        train(said, features, said, features, tmp_path / str(weight), 1, steps=3, every=3, twice_from=1)
    assert len(heard) == 2 * 2  # not in the first step
    for logits, frames in heard:
        (one, other), half = logits.chunk(2), len(frames) // 2
        assert half == len(said)
        assert torch.equal(frames[:half], frames[half:])
        assert not torch.allclose(one, other)
    without, drawn = (torch.load(tmp_path / str(each) / "checkpoint.pt", weights_only=True) for each in (0.0, 0.2))
    assert not torch.equal(without["head"]["enter.weight"], drawn["head"]["enter.weight"])
    torch.testing.assert_close(heard[0][0], heard[2][0])  # until then both were the same training


def test_the_rate_rises_and_falls_to_zero() -> None:
    rates = [rate(step, 2_400) for step in range(2_400)]
    assert max(rates) == pytest.approx(2e-3)
    assert rates[0] < rates[100] < rates[300]
    assert rates[-1] < 2e-6
