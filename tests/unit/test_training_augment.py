"""Changes to waveforms, on batches, against what they mean for one clip."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from training.augment import change_speed, disturb, filtered, mix, power, rooms  # noqa: E402
from training.config import Augmentation  # noqa: E402

LENGTHS = torch.tensor([16_000, 9_000, 12_345])
ALWAYS = Augmentation(noise_chance=1, level_chance=1, room_chance=1, equaliser_chance=1, stop_chance=1)
QUIET = Augmentation(noise_chance=0, level_chance=0)


@pytest.fixture
def samples() -> torch.Tensor:
    """Three tones, zeros behind their ends."""
    t = torch.arange(16_000) / 16_000
    tones = torch.stack([0.5 * torch.sin(2 * torch.pi * hertz * t) for hertz in (440, 700, 1_200)])
    return tones * (torch.arange(16_000)[None] < LENGTHS[:, None])


def test_speed_changes_length_and_pitch_of_each_row_alone(samples: torch.Tensor) -> None:
    factors = torch.tensor([1.1, 1.0, 0.9], dtype=torch.float64)
    made, lengths = change_speed(samples, LENGTHS, factors)
    assert lengths.tolist() == [14_545, 9_000, 13_716]
    assert made.shape == (3, 14_545)
    for row, length, hertz in zip(made, lengths.tolist(), (484, 700, 1_080), strict=True):
        assert not row[length:].any()
        peak = row[:length].numpy()
        assert np.abs(np.fft.rfft(peak)).argmax() * 16_000 / length == pytest.approx(hertz, abs=2)
    places = np.arange(14_545) * 1.1
    expected = np.interp(places, np.arange(16_000), samples[0].numpy())
    np.testing.assert_allclose(made[0].numpy(), expected, atol=1e-6)
    torch.testing.assert_close(made[1, :9_000], samples[1, :9_000])


def test_speed_changes_frames_as_it_changes_samples() -> None:
    x, frames = torch.arange(12.0).reshape(1, 12, 1).repeat(3, 1, 2), torch.tensor([12, 12, 7])
    x[2, 7:] = 0
    factors = torch.tensor([1.0, 1.25, 0.8], dtype=torch.float64)
    made, counts = change_speed(x, frames, factors)
    assert counts.tolist() == [12, 9, 8]
    assert made.shape == (3, 12, 2)
    torch.testing.assert_close(made[0], x[0])
    torch.testing.assert_close(made[1, :9, 1], torch.arange(9.0) * 1.25)
    torch.testing.assert_close(made[2, :8, 0], torch.arange(8.0) * 0.8)
    assert not made[1, 9:].any()
    assert not made[2, 8:].any()


def test_noise_is_mixed_at_the_wanted_ratio(samples: torch.Tensor) -> None:
    torch.manual_seed(0)
    noise = 7 * torch.randn(3, 16_000)
    wanted = torch.tensor([[6.0], [0.0], [20.0]])
    for row, own, length, snr in zip(mix(samples, noise, LENGTHS, wanted), samples, LENGTHS, wanted, strict=True):
        added = (row - own)[:length]
        found = 10 * torch.log10(own[:length].square().mean() / added.square().mean())
        assert float(found) == pytest.approx(float(snr), abs=1e-3)
    torch.testing.assert_close(mix(samples, torch.zeros(3, 16_000), LENGTHS, wanted), samples)


def test_a_filter_without_chances_is_none_and_a_room_begins_with_the_direct_sound(samples: torch.Tensor) -> None:
    torch.testing.assert_close(filtered(samples, QUIET), samples, atol=1e-5, rtol=0)
    torch.manual_seed(0)
    answers = rooms(50, samples)
    assert (answers[:, 0] == 1).all()
    early, late = answers[:, 1:400].square().sum(1), answers[:, -400:].square().sum(1)
    assert (late < early / 3).all()
    assert float(answers[:, 1:].square().sum(1).max()) <= 0.7**2 + 1e-4


def test_bands_are_taken_out() -> None:
    torch.manual_seed(0)
    white = torch.randn(40, 16_000)
    heard = filtered(white, QUIET.model_copy(update={"stop_chance": 1.0, "stop_hz": 1_000.0}))
    before, behind = torch.fft.rfft(white).abs()[:, :7_000], torch.fft.rfft(heard).abs()[:, :7_000]
    gone = (behind < 0.1 * before).float().mean(1)
    assert float(gone.min()) > 0.01  # 100 Hz of 7 kHz at least
    assert 0.05 < float(gone.mean()) < 2 * 1_000 / 7_000


def test_disturbing_keeps_lengths_and_range_and_follows_its_seed(samples: torch.Tensor) -> None:
    def once(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return disturb(samples, LENGTHS, ALWAYS)

    torch.testing.assert_close(once(1), once(1), rtol=0, atol=0)
    assert not torch.equal(once(1), once(2))
    for seed in range(5):
        heard = once(seed)
        assert heard.dtype == torch.float32
        assert bool(torch.isfinite(heard).all()) and float(heard.abs().max()) <= 1
        assert all(not row[length:].any() for row, length in zip(heard, LENGTHS, strict=True))
    torch.testing.assert_close(disturb(samples, LENGTHS, QUIET), samples)


def test_a_room_and_a_microphone_do_not_change_the_level(samples: torch.Tensor) -> None:
    torch.manual_seed(0)
    config = QUIET.model_copy(update={"room_chance": 1.0, "equaliser_chance": 1.0})
    torch.testing.assert_close(power(disturb(samples, LENGTHS, config), LENGTHS), power(samples, LENGTHS))
