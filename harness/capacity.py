"""How many streams a core or a GPU carries within a latency: queueing from measured times, and a simulation beside it.

Chunks of all streams are heard in rounds: a round takes what waits, all of it in one batch, and what arrives meanwhile
is in the next. With a round of n chunks taking `a + b n` and chunks arriving at rate `r`, the mean round satisfies
`R = a + b r R`, so `R = a / (1 - b r)`: the load at which nothing holds is `b r = 1`. A chunk waits for the round that
runs and then takes its own. Segments that have ended are settled one by one on k workers: M/G/k by Allen and Cunneen's
approximation with an exponential tail (Kimura, "Approximations for multi-server queues", 1994).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, norm

Float64 = npt.NDArray[np.float64]
MANY = 150
"""Chunks of a mean round from which on its size is taken as known."""
MOMENTS = 16
"""Points of a round at which a chunk is let arrive."""
LEAST = 1e-7
"""Chances below it are left out."""
WARM_UP = 0.1
"""Share of a simulation's start that is not counted."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """What a round costs.

    Attributes:
        fixed_s: Seconds of a round whatever is in it.
        chunk_s: Seconds more for each chunk.
        spread: Standard deviation of a round's time over its mean, for batches of one size.
    """

    fixed_s: float
    chunk_s: float
    spread: float = 0.0

    def seconds(self, chunks: Any) -> Any:
        """Mean time of a round."""
        return self.fixed_s + self.chunk_s * chunks

    @classmethod
    def fitted(cls, sizes: Sequence[int], times_s: Sequence[Sequence[float]]) -> Rounds:
        """From measured times of rounds of several sizes: a line through the means, weighted by relative error.

        Raises:
            ValueError: Fewer than two sizes.
        """
        if len(set(sizes)) < 2:
            raise ValueError(f"two batch sizes or more tell what a chunk costs, got {sorted(set(sizes))}")
        means = np.array([np.mean(times) for times in times_s])
        line = np.polynomial.polynomial.polyfit(np.array(sizes, float), means, 1, w=1 / means)
        spreads = [float(np.std(times) / np.mean(times)) for times in times_s]
        return cls(max(float(line[0]), 1e-9), max(float(line[1]), 1e-12), float(np.median(spreads)))


def round_latency(rounds: Rounds, streams: int, period_s: float, quantile: float) -> float:
    """Seconds from a chunk's arrival to the end of its round that `quantile` of the chunks stay below.

    Args:
        rounds: What a round costs.
        streams: Streams that share the server.
        period_s: Seconds of audio in a chunk, so one chunk of each stream in so many seconds.
        quantile: In (0, 1).

    Returns:
        Infinity where the server cannot keep up.
    """
    rate = streams / period_s
    if rounds.chunk_s * rate >= 1:
        return math.inf
    factors, weights = _spread(rounds.spread)
    if rate * rounds.fixed_s / (1 - rounds.chunk_s * rate) > MANY:  # then rounds are all about as large as the mean
        mean = rounds.fixed_s / (1 - rounds.chunk_s * rate)
        waited = mean * factors[:, None, None] * ((np.arange(MOMENTS) + 0.5) / MOMENTS)[:, None] + mean * factors
        shares = np.broadcast_to(weights[:, None, None] * weights, waited.shape)
        return _quantile(waited.ravel(), shares.ravel(), quantile)
    sizes, chances = _round_sizes(rounds, streams, period_s)
    lengths = rounds.seconds(sizes)[:, None] * factors  # of the round in which a chunk arrives
    # It arrives in a round with a chance in proportion to that round's length, at any moment of it alike, or between
    # rounds; its own round has what else arrives during the first.
    heavy = chances[:, None] * weights * lengths
    idle = float((chances[:, None] * weights * _nothing(lengths, streams, period_s)).sum()) / rate
    heavy /= heavy.sum() + idle
    moments = (np.arange(MOMENTS) + 0.5) / MOMENTS
    total, chance = [rounds.seconds(1) * factors], [(1 - heavy.sum()) * weights]
    others = np.arange(0, sizes.size)
    for length, weight in zip(lengths.ravel(), heavy.ravel(), strict=True):
        if weight < LEAST:
            continue
        likely = binom.pmf(others, max(streams - 1, 0), min(length / period_s, 1.0))
        kept = likely > LEAST
        own = (rounds.seconds(1 + others[kept])[:, None] * factors).ravel()
        own_chance = (likely[kept][:, None] * weights).ravel()
        total.append((length * moments[:, None] + own).ravel())
        chance.append(weight * np.tile(own_chance / moments.size, moments.size))
    return _quantile(np.concatenate(total), np.concatenate(chance), quantile)


def _quantile(values: Float64, weights: Float64, quantile: float) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][min(int(np.searchsorted(total, quantile * total[-1])), values.size - 1)])


def _nothing(lengths: Float64, streams: int, period_s: float) -> Float64:
    """The chance that no chunk arrives in so many seconds."""
    chance: Float64 = (1 - np.minimum(lengths / period_s, 1.0)) ** streams
    return chance


def _round_sizes(rounds: Rounds, streams: int, period_s: float) -> tuple[Float64, Float64]:
    """Sizes of rounds and their chances: a Markov chain, each stream having a chunk in a round with its length."""
    rate = streams / period_s
    mean = rate * rounds.fixed_s / (1 - rounds.chunk_s * rate)
    most = int(min(4 * mean + 12 * math.sqrt(mean + 1) + 8, max(streams, 1)))
    sizes = np.arange(1, most + 1, dtype=float)
    factors, weights = _spread(rounds.spread)
    step = np.zeros((most, most))
    for factor, weight in zip(factors, weights, strict=True):
        chances = np.minimum(rounds.seconds(sizes) * factor / period_s, 1.0)
        counts = binom.pmf(np.arange(0, most + 1), streams, chances[:, None])
        counts[:, 1] += counts[:, 0]  # nothing has arrived: the next round is of the first chunk that does
        step += weight * counts[:, 1:]
    step /= np.maximum(step.sum(axis=1, keepdims=True), LEAST)
    found = np.full(most, 1 / most)
    for _ in range(500):
        after = found @ step
        if np.abs(after - found).sum() < 1e-9:
            break
        found = after
    return sizes, found


def _spread(spread: float) -> tuple[Float64, Float64]:
    """A log-normal of mean 1 in three points, and their weights."""
    sigma = math.sqrt(math.log1p(spread**2))
    points = np.exp(sigma * math.sqrt(3) * np.array([-1.0, 0.0, 1.0]) - sigma**2 / 2)
    return points, np.array([1, 4, 1]) / 6


def streams_within(rounds: Rounds, period_s: float, goal_s: float, quantile: float = 0.99) -> int:
    """The most streams whose chunks are heard within `goal_s` at the quantile; 0 where not even one is."""
    low, high = 0, 1
    while round_latency(rounds, high, period_s, quantile) <= goal_s:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if round_latency(rounds, middle, period_s, quantile) <= goal_s:
            low = middle
        else:
            high = middle
    return low


def worker_latency(rate: float, mean_s: float, spread: float, workers: int, quantile: float) -> float:
    """Seconds in an M/G/k queue, waiting and served, that `quantile` of the jobs stay below.

    Args:
        rate: Jobs a second.
        mean_s: Of a job.
        spread: Standard deviation over mean.
        workers: k.
        quantile: In (0, 1).
    """
    load = rate * mean_s
    if load >= workers:
        return math.inf
    term, total = 1.0, 1.0
    for k in range(1, workers):
        term *= load / k
        total += term
    last = term * load / workers / (1 - load / workers)
    waits = last / (total + last)  # Erlang's C
    decay = (workers - load) / mean_s * 2 / (1 + spread**2)
    sigma = math.sqrt(math.log1p(spread**2))
    places = (np.arange(400) + 0.5) / 400
    served = mean_s * np.exp(sigma * norm.ppf(places) - sigma**2 / 2)
    waited = np.where(places < 1 - waits, 0.0, -np.log((1 - places) / waits) / decay)
    return float(np.quantile(waited[:, None] + served, quantile))


def simulate_rounds(rounds: Rounds, streams: int, period_s: float, chunks: int, seed: int = 0) -> Float64:
    """Latencies of a simulated server: every stream sends a chunk each period, at a phase of its own that drifts."""
    rng = np.random.default_rng(seed)
    sends = max(chunks // streams, 2)
    phases = rng.uniform(0, period_s, streams)
    jitter = rng.uniform(-0.5, 0.5, (sends, streams)) * period_s
    arrivals = np.sort((phases + np.arange(sends)[:, None] * period_s + jitter).ravel())
    now, at = 0.0, 0
    latencies = np.empty(arrivals.size)
    sigma = math.sqrt(math.log1p(rounds.spread**2))
    while at < arrivals.size:
        now = max(now, arrivals[at])
        end = int(np.searchsorted(arrivals, now, side="right"))
        now += rounds.seconds(end - at) * math.exp(rng.normal(-(sigma**2) / 2, sigma))
        latencies[at:end] = now - arrivals[at:end]
        at = end
    return latencies[int(WARM_UP * latencies.size) :]


def simulate_workers(rate: float, mean_s: float, spread: float, workers: int, jobs: int, seed: int = 0) -> Float64:
    """Latencies of simulated jobs: Poisson arrivals, log-normal times, first come first served."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / rate, jobs))
    sigma = math.sqrt(math.log1p(spread**2))
    times = mean_s * np.exp(rng.normal(-(sigma**2) / 2, sigma, jobs))
    free = [0.0] * workers
    latencies = np.empty(jobs)
    for job, (arrived, time) in enumerate(zip(arrivals, times, strict=True)):
        done = max(heapq.heappop(free), arrived) + time
        heapq.heappush(free, done)
        latencies[job] = done - arrived
    return latencies[int(WARM_UP * jobs) :]
