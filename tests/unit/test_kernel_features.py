"""Log-mel features: against kaldi-native-fbank in both conventions, and the kernel against float64."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.dispatch import Implementation
from kernels.features import LogMel, MelBank, MelConfig, nemo_config, normalise, slaney_hz, slaney_mel
from tests.unit.kernel_sets import every_implementation, examples, kernel_set

knf = pytest.importorskip("kaldi_native_fbank", reason="kaldi-native-fbank is not installed: pip install .[dev]")


def voice(samples: int) -> np.ndarray:
    """Noise with a silence in it, so that the floor of the logarithm is reached."""
    x = (np.random.default_rng(samples).standard_normal(samples) * 0.1).astype(np.float32)
    x[samples // 3 : samples // 2] = 0
    return x


def features(name: Implementation, config: MelConfig, samples: np.ndarray) -> np.ndarray:
    extract = LogMel(config, kernel_set(name).mel_writer)
    out = np.full((extract.frames(samples.size), config.mels), np.nan, np.float32)
    extract(samples, out)
    return out


def kaldi(samples: np.ndarray, config: MelConfig) -> np.ndarray:
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = config.mels
    options.mel_opts.high_freq = config.high_hz
    fbank = knf.OnlineFbank(options)
    fbank.accept_waveform(16_000, (samples * config.scale).tolist())
    fbank.input_finished()
    rows = [fbank.get_frame(i) for i in range(fbank.num_frames_ready)]
    return np.array(rows, np.float32).reshape(-1, config.mels)


def nemo(samples: np.ndarray, config: MelConfig) -> np.ndarray:
    options = knf.NemoFbankOptions()
    options.num_mel_bins = config.mels
    fbank = knf.OnlineNemoFbank(options)
    fbank.accept_waveform(16_000, samples.tolist())
    fbank.input_finished()
    return np.asarray(fbank.get_frames(0, fbank.num_frames_ready, True)[0])


REFERENCES: dict[str, Callable[[np.ndarray, MelConfig], np.ndarray]] = {"kaldi": kaldi, "nemo": nemo}


@every_implementation
@pytest.mark.parametrize(
    "config",
    [MelConfig(), MelConfig(scale=32768.0, mels=40), MelConfig(high_hz=7_600.0), nemo_config(), nemo_config(128)],
    ids=["kaldi", "kaldi of 16-bit numbers", "kaldi to 7.6 kHz", "nemo", "nemo 128"],
)
@pytest.mark.parametrize("samples", [400, 4_000, 16_001, 16_159, 32_000])
def test_equals_the_reference(name: Implementation, config: MelConfig, samples: int) -> None:
    found = features(name, config, voice(samples))
    expected = REFERENCES[config.convention](voice(samples), config)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=3e-4)


@every_implementation
@pytest.mark.parametrize("config", [MelConfig(), nemo_config()], ids=["kaldi", "nemo"])
def test_a_clip_shorter_than_a_frame_has_none(name: Implementation, config: MelConfig) -> None:
    for samples in (0, 1, 159):
        assert features(name, config, voice(samples)).shape == (0, 80)


@every_implementation
@examples
@given(
    bins=st.integers(1, 70), mels=st.integers(1, 40), seed=st.integers(0, 99), guard=st.sampled_from([0.0, 2.0**-24])
)
def test_the_kernel_equals_the_formula(name: Implementation, bins: int, mels: int, seed: int, guard: float) -> None:
    rng = np.random.default_rng(seed)
    power = (rng.standard_normal((3, bins)) ** 2 * 10.0 ** rng.integers(-30, 6)).astype(np.float32)
    power[1, rng.integers(bins)] = np.nan
    power[2, rng.integers(bins)] = np.inf
    dense = np.zeros((mels, bins))
    for row in dense:
        start, end = sorted(rng.integers(0, bins + 1, 2))
        row[start:end] = rng.uniform(0.1, 1, end - start)
    bank = MelBank.packed(dense)
    out = np.empty((3, mels), np.float32)
    kernel_set(name).log_mel(power, bank.weights, bank.starts, bank.ends, guard, 1e-7, out)
    for frame in range(3):
        for mel in range(mels):
            energy = float(sum(power[frame, i].astype(float) * dense[mel, i] for i in np.flatnonzero(dense[mel])))
            expected = np.log(max(energy + guard, 1e-7)) if energy == energy else np.nan
            assert out[frame, mel] == pytest.approx(expected, abs=2e-5, nan_ok=True)


@every_implementation
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ends": np.array([2, 6])}, "ranges within the 5 bins"),
        ({"starts": np.array([-1, 2])}, "ranges within the 5 bins"),
        ({"weights": np.ones(3, np.float32)}, "need 4 weights, got 3"),
        ({"floor": 0.0}, "floor must be a positive normal"),
        ({"floor": float("nan")}, "floor must be"),
    ],
)
def test_a_broken_bank_is_refused(name: Implementation, change: dict[str, object], message: str) -> None:
    arguments = {
        "power": np.ones((1, 5), np.float32),
        "weights": np.ones(4, np.float32),
        "starts": np.array([0, 2]),
        "ends": np.array([2, 4]),
        "guard": 0.0,
        "floor": 1e-7,
        "out": np.zeros((1, 2), np.float32),
    }
    with pytest.raises(ValueError, match=message):
        kernel_set(name).log_mel(*{**arguments, **change}.values())


def test_slaneys_scale_goes_there_and_back() -> None:
    hz = np.linspace(0, 8_000, 500)
    np.testing.assert_allclose(slaney_hz(slaney_mel(hz)), hz, atol=1e-6)
    assert slaney_mel([1000.0, 6400.0]).tolist() == pytest.approx([15.0, 42.0])


def test_normalise_gives_mean_0_and_deviation_1() -> None:
    x = normalise(np.random.default_rng(0).normal(5, 3, (50, 80)).astype(np.float32))
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(axis=0, ddof=1), 1, atol=1e-4)
    with pytest.raises(ValueError, match="at least two frames, got 1"):
        normalise(np.zeros((1, 80), np.float32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame": 600}, "does not fit into a transform of 512"),
        ({"high_hz": 9_000.0}, "0 <= low < high <= 8000"),
        ({"mels": 0}, "must be positive"),
    ],
)
def test_impossible_configurations_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MelConfig(**options)  # type: ignore[arg-type]


def test_wrong_samples_and_outputs_are_refused() -> None:
    extract = LogMel(MelConfig(), kernel_set("numpy").mel_writer)
    with pytest.raises(ValueError, match=r"out must be \(1, 80\) for 400 samples"):
        extract(np.zeros(400, np.float32), np.zeros((2, 80), np.float32))
    with pytest.raises(ValueError, match="samples must be contiguous native float32"):
        extract(np.zeros(400), np.zeros((1, 80), np.float32))
