"""Reading audio: every format, rate and channel count, and every way that a file can be broken."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipelines.audio.read import audio_info, read_audio
from pipelines.errors import AmiraError

RATE = 16_000


def tone(rate: int, seconds: float = 1.5, hz: float = 440.0) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def noise(rate: int, seconds: float) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(int(rate * seconds))).astype(np.float32)


def samples(pcm16: bytes) -> np.ndarray:
    return np.frombuffer(pcm16, "<i2").astype(np.float64) / 32768


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_a_tone_keeps_its_pitch_level_and_length_at_any_rate(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(rate), rate, subtype="FLOAT")
    audio = read_audio(path)
    assert (audio.source_rate, audio.source_channels) == (rate, 1)
    assert audio.duration_s == pytest.approx(1.5, abs=2e-3)
    assert len(audio.pcm16) == round(audio.duration_s * RATE) * 2
    middle = slice(2_000, 20_000)
    np.testing.assert_allclose(samples(audio.pcm16)[middle], tone(RATE)[middle], atol=2e-3)


@pytest.mark.parametrize(
    ("name", "options", "worst"),
    [
        ("a.flac", {"subtype": "PCM_24"}, 2e-3),
        ("a.ogg", {"format": "OGG", "subtype": "VORBIS"}, 0.03),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}, 0.03),
        ("a.mp3", {}, 0.03),
        ("a.aiff", {}, 2e-3),
    ],
)
def test_compressed_formats(tmp_path: Path, name: str, options: dict[str, str], worst: float) -> None:
    path = tmp_path / name
    soundfile.write(path, np.stack([tone(48_000), tone(48_000)], axis=1), 48_000, **options)
    audio = read_audio(path)
    assert audio.source_channels == 2
    assert audio.duration_s == pytest.approx(1.5, abs=0.03)
    middle = slice(4_000, 20_000)
    np.testing.assert_allclose(samples(audio.pcm16)[middle], tone(RATE)[middle], atol=worst)


def test_pcm16_at_16_khz_comes_out_bit_for_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(-32768, 32768, 300_000).astype("<i2")  # several blocks
    values[:2] = (-32768, 32767)
    soundfile.write(tmp_path / "a.wav", values, RATE, subtype="PCM_16")
    (tmp_path / "a.raw").write_bytes(values.tobytes())
    assert read_audio(tmp_path / "a.wav").pcm16 == values.tobytes()
    assert read_audio(tmp_path / "a.raw").pcm16 == values.tobytes()


def test_channels_are_averaged(tmp_path: Path) -> None:
    left = tone(RATE)
    soundfile.write(tmp_path / "a.wav", np.stack([left, 0 * left], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(samples(read_audio(tmp_path / "a.wav").pcm16), left / 2, atol=1 / 32768)


def test_too_loud_float_samples_saturate_and_do_not_wrap(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([2.0, 1.0, -1.0, -3.0, 0.5]), RATE, subtype="FLOAT")
    pcm = np.frombuffer(read_audio(tmp_path / "a.wav").pcm16, "<i2")
    assert pcm.tolist() == [32767, 32767, -32768, -32768, 16384]


def test_silence_is_audio(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(8_000), 8_000)
    assert not any(read_audio(tmp_path / "a.wav").pcm16)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.opus", "a.raw"])
def test_a_part_is_the_same_as_the_whole_cut(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.raw":
        path.write_bytes((noise(RATE, 3) * 32767).astype("<i2").tobytes())
    else:
        options = {"format": "OGG", "subtype": "OPUS"} if name == "a.opus" else {}
        soundfile.write(path, noise(RATE, 3), RATE, **options)
    whole = samples(read_audio(path).pcm16)
    part = samples(read_audio(path, start_s=1.0, end_s=2.25).pcm16)
    # Opus needs a moment after a seek until its prediction is the same again.
    settled = RATE // 4 if name == "a.opus" else 0
    np.testing.assert_allclose(part[settled:], whole[16_000 + settled : 36_000], atol=2 / 32768)


def test_a_part_that_is_not_there(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(RATE, 1), RATE)
    with pytest.raises(AmiraError, match=r"no audio from 0.5 s to 2 s: it is 1.000 s long"):
        read_audio(tmp_path / "a.wav", start_s=0.5, end_s=2.0)
    with pytest.raises(AmiraError, match="no audio from 1 s to its end"):
        read_audio(tmp_path / "a.wav", start_s=1.0)


def test_info_is_what_the_header_says(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros((24_000, 2)), 48_000)
    (tmp_path / "a.raw").write_bytes(bytes(32_000))
    info = audio_info(tmp_path / "a.flac")
    assert (info.duration_s, info.rate, info.channels) == (0.5, 48_000, 2)
    assert audio_info(tmp_path / "a.raw").duration_s == 1.0


def test_missing_folder_empty_and_not_audio(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is no audio at all, but long enough to be looked at")
    for name, message in [
        ("none.wav", "does not exist"),
        (".", "is a folder"),
        ("empty.wav", r"is empty \(0 bytes\)"),
        ("text.wav", "is not audio that can be read.*Convert it"),
    ]:
        with pytest.raises(AmiraError, match=message):
            read_audio(tmp_path / name)
        with pytest.raises(AmiraError, match=message):
            audio_info(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(RATE, 0.1), RATE)
    (tmp_path / "a.wav").chmod(0)
    with pytest.raises(AmiraError, match="permission"):
        read_audio(tmp_path / "a.wav")


def test_no_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE)
    with pytest.raises(AmiraError, match="holds no samples"):
        read_audio(tmp_path / "a.wav")
    (tmp_path / "a.raw").touch()
    with pytest.raises(AmiraError, match="is empty"):
        read_audio(tmp_path / "a.raw")


def test_raw_of_an_odd_size(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(33))
    with pytest.raises(AmiraError, match="33 bytes, an odd number"):
        read_audio(tmp_path / "a.raw")


@pytest.mark.parametrize("channels", [1, 2])
def test_truncated_wav_names_both_counts(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((10_000, channels)), 44_100, subtype="PCM_16")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 3_000 * 2 * channels])
    with pytest.raises(AmiraError, match="promises 10000 frames, 7000 are there"):
        read_audio(path)


def test_wav_with_chunks_around_its_data_is_whole(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(RATE, 0.1), RATE, subtype="PCM_16")
    data = (tmp_path / "a.wav").read_bytes()
    odd_chunk = b"note" + struct.pack("<I", 3) + b"abc\0"
    (tmp_path / "b.wav").write_bytes(data[:12] + odd_chunk + data[12:] + odd_chunk)
    assert read_audio(tmp_path / "b.wav").pcm16 == read_audio(tmp_path / "a.wav").pcm16


def test_wav_streamed_into_a_pipe_has_no_length_and_is_read_to_its_end(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(RATE, 0.1), RATE, subtype="PCM_16")
    data = bytearray((tmp_path / "a.wav").read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    data[4:8] = b"\xff\xff\xff\xff"
    (tmp_path / "b.wav").write_bytes(data)
    assert read_audio(tmp_path / "b.wav").pcm16 == read_audio(tmp_path / "a.wav").pcm16


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.flac", {}),
        ("a.mp3", {}),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}),
        ("a.ogg", {"format": "OGG", "subtype": "VORBIS"}),
    ],
)
@pytest.mark.parametrize("part", [0.5, 0.97])
def test_compressed_files_that_break_off(tmp_path: Path, name: str, options: dict[str, str], part: float) -> None:
    path = tmp_path / name
    soundfile.write(path, noise(48_000, 6), 48_000, **options)
    assert read_audio(path).duration_s == pytest.approx(6, abs=0.1)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(AmiraError, match=r"cut short|not audio"):
        read_audio(path)


@pytest.mark.parametrize(("name", "options"), [("a.flac", {}), ("a.opus", {"format": "OGG", "subtype": "OPUS"})])
def test_compressed_files_damaged_in_the_middle(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    path = tmp_path / name
    soundfile.write(path, noise(48_000, 6), 48_000, **options)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 6_000] = np.random.default_rng(2).bytes(6_000)
    path.write_bytes(data)
    with pytest.raises(AmiraError, match=r"damaged|cut short"):
        read_audio(path)


def test_mp3_without_a_length_header(tmp_path: Path) -> None:
    loud_then_quiet = noise(48_000, 6) * np.repeat([1.0, 0.001], 3 * 48_000).astype(np.float32)
    for mode in ("CONSTANT", "VARIABLE"):
        soundfile.write(tmp_path / "a.mp3", loud_then_quiet, 48_000, bitrate_mode=mode, compression_level=0.4)
        data = (tmp_path / "a.mp3").read_bytes()
        (tmp_path / f"{mode}.mp3").write_bytes(data[data.index(b"\xff\xfb", 4) :])  # drop the frame that has it
    assert read_audio(tmp_path / "CONSTANT.mp3").duration_s == pytest.approx(6, abs=0.1)
    with pytest.raises(AmiraError, match="no length header and a varying bit rate"):
        read_audio(tmp_path / "VARIABLE.mp3")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers(tmp_path: Path, value: float) -> None:
    data = np.zeros((40_000, 2), np.float32)
    data[24_000, 1] = value
    soundfile.write(tmp_path / "a.wav", data, RATE, subtype="FLOAT")
    with pytest.raises(AmiraError, match=r"not numbers \(NaN or infinite\), the first at 1.500 s"):
        read_audio(tmp_path / "a.wav")
