"""The streaming model written out naively over a whole clip: what its steps must add up to."""

from __future__ import annotations

from math import erf

import numpy as np

HEADS, HEAD_WIDTH, ROTATED = 8, 52, 32
_erf = np.vectorize(erf)


def log_probs(
    tensors: dict[str, np.ndarray],
    samples: np.ndarray,
    *,
    layers: int,
    chunk_frames: int,
    left_frames: int,
    mean: float,
    deviation: float,
) -> np.ndarray:
    """float64 (frames, labels) of a whole clip (n,), under the mask that streaming it in chunks has."""
    own = {name: value.astype(np.float64) for name, value in tensors.items()}
    frames = -(-len(samples) // 384)
    wave = np.concatenate([np.zeros(511), samples, np.zeros(frames * 384 - len(samples))])
    x = np.tanh(_convolution(wave[None], own["conv1.weight"], 64))
    x = (x - mean) / deviation * own["groupnorm.weight"][:, None] + own["groupnorm.bias"][:, None]
    x = _stem_convolution(own, "conv2", x, 3)
    x = _stem_convolution(own, "conv3", x, 2).T
    assert len(x) == frames
    for layer in range(layers):
        name = f"layers.{layer}"
        normed = _norm(x, own[f"{name}.input_layernorm.weight"])
        query, key, value = (normed @ own[f"{name}.self_attn.{part}_proj.weight"].T for part in "qkv")
        mixed = _attention(query, key, value, chunk_frames, left_frames)
        x = x + mixed @ own[f"{name}.self_attn.o_proj.weight"].T
        normed = _norm(x, own[f"{name}.post_attention_layernorm.weight"])
        wide = _gelu(normed @ own[f"{name}.mlp.fc1.weight"].T + own[f"{name}.mlp.fc1.bias"])
        x = x + wide @ own[f"{name}.mlp.fc2.weight"].T + own[f"{name}.mlp.fc2.bias"]
    logits = _norm(x, own["layer_norm.weight"]) @ own["head.weight"].T + own["head.bias"]
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def _convolution(x: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """(inputs, time) to (outputs, time), without padding."""
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2], axis=1)[:, ::stride]
    return np.einsum("ctw,ocw->ot", windows, weight, optimize=True)


def _stem_convolution(own: dict[str, np.ndarray], name: str, x: np.ndarray, stride: int) -> np.ndarray:
    if f"{name}.down.weight" in own:
        x = _convolution(x, own[f"{name}.down.weight"], stride)
        x = _convolution(x, own[f"{name}.up.weight"], 1) + own[f"{name}.up.bias"][:, None]
    else:
        x = _convolution(x, own[f"{name}.weight"], stride) + own[f"{name}.bias"][:, None]
    return _gelu(x)


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + _erf(x / np.sqrt(2)))


def _norm(x: np.ndarray, gain: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) * gain


def _rotated(x: np.ndarray) -> np.ndarray:
    """(frames, heads, width): interleaved pairs of the first 32 dimensions turned by the frame's position."""
    angles = np.arange(len(x))[:, None] * 10_000.0 ** (-np.arange(0, ROTATED, 2) / ROTATED)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    out = x.copy()
    even, odd = x[..., 0:ROTATED:2], x[..., 1:ROTATED:2]
    out[..., 0:ROTATED:2] = even * cos - odd * sin
    out[..., 1:ROTATED:2] = odd * cos + even * sin
    return out


def _attention(query: np.ndarray, key: np.ndarray, value: np.ndarray, chunk: int, left: int) -> np.ndarray:
    frames = len(query)
    query, key, value = (part.reshape(frames, HEADS, HEAD_WIDTH) for part in (query, key, value))
    query, key = _rotated(query), _rotated(key)
    out = np.empty_like(value)
    for frame in range(frames):
        start = frame // chunk * chunk
        seen = slice(max(start - left, 0), min(start + chunk, frames))
        scores = np.einsum("hd,khd->hk", query[frame], key[seen]) / np.sqrt(HEAD_WIDTH)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        out[frame] = np.einsum("hk,khd->hd", weights, value[seen])
    return out.reshape(frames, -1)
