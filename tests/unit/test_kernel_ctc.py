"""The fused greedy CTC pass, against a loop in plain Python, for every implementation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.dispatch import Implementation
from tests.unit.kernel_sets import every_implementation, examples, kernel_set

Found = list[tuple[int, int, int]]


def oracle(log_probs: np.ndarray, blank: int, previous: int) -> tuple[Found, list[float], int]:
    """Tokens with first and last frame, their confidences, and the last label."""
    found: list[list[int]] = []
    best: list[float] = []
    open_token = False
    for t, row in enumerate(log_probs):
        label = int(row.argmax())
        value = float(row[label])
        if label != previous:
            open_token = label != blank
            if open_token:
                found.append([label, t, t])
                best.append(value)
        elif open_token:
            found[-1][2] = t
            if not value <= best[-1]:
                best[-1] = value if not math.isnan(best[-1]) else math.nan
        previous = label
    return [(label, first, last) for label, first, last in found], [math.exp(value) for value in best], previous


def greedy(name: Implementation, log_probs: np.ndarray, blank: int, carry: np.ndarray) -> tuple[Found, list[float]]:
    frames = len(log_probs)
    tokens, confidences = np.full(frames + 2, -9), np.full(frames + 2, -9, np.float32)
    spans = np.full((frames + 2, 2), -9)
    count = kernel_set(name).ctc_greedy(log_probs, blank, carry, tokens, confidences, spans)
    assert (tokens[frames:] == -9).all()
    assert (confidences[frames:] == -9).all()
    assert (spans[frames:] == -9).all()
    found = [(int(token), int(first), int(last)) for token, (first, last) in zip(tokens, spans, strict=True)]
    return found[:count], confidences[:count].tolist()


@st.composite
def utterances(draw: st.DrawFn) -> np.ndarray:
    """Runs of labels as a CTC model gives them, in vocabularies of any size, now and then with a broken frame."""
    labels = draw(st.integers(1, 70))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    path = np.repeat(rng.integers(0, labels, 12), rng.integers(1, 4, 12))[: draw(st.integers(0, 30))]
    log_probs = np.log(rng.dirichlet(np.ones(labels), len(path)) * 0.4 + 1e-30).astype(np.float32).reshape(-1, labels)
    log_probs[np.arange(len(path)), path] = np.log(rng.uniform(0.5, 1, len(path)))
    if draw(st.booleans()):
        broken = rng.random(log_probs.shape) < 0.01
        log_probs[broken] = draw(st.sampled_from([np.nan, -np.inf, np.inf]))
    return log_probs


@every_implementation
@examples
@given(log_probs=utterances(), data=st.data())
def test_greedy_equals_the_oracle(name: Implementation, log_probs: np.ndarray, data) -> None:
    labels = log_probs.shape[1]
    blank, before = data.draw(st.integers(0, labels - 1)), data.draw(st.integers(-1, labels - 1))
    carry = np.array([before])
    found, confidences = greedy(name, log_probs, blank, carry)
    expected, expected_confidences, last = oracle(log_probs, blank, before)
    assert found == expected
    np.testing.assert_allclose(confidences, expected_confidences, rtol=1e-6, atol=1e-37)
    assert carry[0] == last


@every_implementation
@examples
@given(log_probs=utterances(), cut=st.integers(0, 30))
def test_chunks_give_the_tokens_of_the_whole(name: Implementation, log_probs: np.ndarray, cut: int) -> None:
    cut = min(cut, len(log_probs))
    whole, _ = greedy(name, log_probs, 0, np.array([0]))
    carry = np.array([0])
    first, _ = greedy(name, log_probs[:cut], 0, carry)
    second, _ = greedy(name, log_probs[cut:], 0, carry)
    assert [token for token, *_ in whole] == [token for token, *_ in first + second]
    assert [start for _, start, _ in whole] == [start for _, start, _ in first] + [
        cut + start for _, start, _ in second
    ]


@every_implementation
def test_a_reading_of_known_frames(name: Implementation) -> None:
    path = [0, 3, 3, 0, 3, 2, 2, 2, 0, 0, 1]
    log_probs = np.full((len(path), 40), -20, np.float32)
    log_probs[np.arange(len(path)), path] = np.log([0.9, 0.6, 0.8, 0.9, 0.5, 0.7, 0.75, 0.7, 0.9, 0.9, 1.0])
    carry = np.array([0])
    found, confidences = greedy(name, log_probs, 0, carry)
    assert found == [(3, 1, 2), (3, 4, 4), (2, 5, 7), (1, 10, 10)]
    assert confidences == pytest.approx([0.8, 0.5, 0.75, 1.0])
    assert carry.tolist() == [1]


@every_implementation
def test_no_frames_leave_the_carry_alone(name: Implementation) -> None:
    carry = np.array([5])
    assert greedy(name, np.empty((0, 7), np.float32), 0, carry) == ([], [])
    assert carry.tolist() == [5]


@every_implementation
@pytest.mark.parametrize(
    ("blank", "rows", "message"), [(7, 3, "blank must be one"), (-1, 3, "blank"), (0, 2, "tokens")]
)
def test_wrong_arguments_are_refused(name: Implementation, blank: int, rows: int, message: str) -> None:
    outputs = np.zeros(1, np.int64), np.zeros(rows, np.int64), np.zeros(3, np.float32), np.zeros((3, 2), np.int64)
    with pytest.raises(ValueError, match=message):
        kernel_set(name).ctc_greedy(np.zeros((3, 7), np.float32), blank, *outputs)
