"""A step in rings, part by part: its distance from plain FP32, its time by batch, its kernels, and how to lay them out.

    python experiments/032-gpu/step.py [--model model.plain.onnx] [sections]

Needs a GPU, PyTorch, Triton and onnx; without `--model` it makes an encoder of random weights and the usual size.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from torch import Tensor

from harness.gpu_floor import floor, floor_s
from pipelines.acoustic.ring_plain import PlainOps
from pipelines.acoustic.ring_step import RingOps, Turned, Windows, ring_step
from pipelines.acoustic.ring_triton import Tile, TritonOps, Tuning
from pipelines.acoustic.ring_weights import STATES, RingPool, RingWeights, ring_weights
from pipelines.acoustic.torch_capture import captured
from pipelines.acoustic.torch_graph import TorchGraph
from tests.random_stream import write_random_stream

FRAMES, SHIFT = 7, 384
BATCHES = (1, 8, 64, 128, 256, 512, 1_024)
STEPS = 50
CONTEXT_STEPS = 14
"""Chunks after which a stream's context is full."""
TILES = (
    Tile(128, 128, 64, 8, 3), Tile(128, 128, 64, 4, 3), Tile(128, 128, 32, 8, 4), Tile(128, 64, 64, 4, 4),
    Tile(64, 128, 64, 4, 4), Tile(64, 64, 64, 4, 4), Tile(128, 256, 64, 8, 3), Tile(64, 256, 64, 8, 3),
    Tile(256, 64, 64, 8, 3), Tile(32, 64, 64, 4, 5), Tile(16, 64, 64, 4, 5), Tile(16, 32, 128, 4, 4),
)  # fmt: skip
TILED = (16, 64, 256, 512)
"""Batches that products are laid out for."""
SMALL, LEAST_ROWS = 2_000, 64
"""Products of more rows are not tried in tiles of fewer."""
PRODUCTS = ("second", "third", "qkv", "dense", "fc1", "fc2")
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """One failure is told, and the rest goes on."""
    started = perf_counter()
    try:
        yield
    except Exception:  # noqa: BLE001 - whatever a compiler or driver raises
        print(f"FAILED {name}\n{traceback.format_exc(limit=-4)}", flush=True)
    took = perf_counter() - started
    if took > 1:
        print(f"[{name}: {took:.1f} s]", flush=True)


def shapes(graph: TorchGraph, path: Path) -> dict[str, tuple[int, ...]]:
    """Of one stream's states."""
    import onnx

    found = {}
    for each in onnx.load(path).graph.input:
        found[each.name] = tuple(size.dim_value or 1 for size in each.type.tensor_type.shape.dim)
    return {name: found[name] for name in STATES}


class Bench:
    """A model in one precision on the GPU."""

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        self.path = path
        self.graph = TorchGraph(path, "cuda", dtype)
        self.shapes = shapes(self.graph, path)
        weights = ring_weights(self.graph, self.shapes)
        assert weights is not None, "the graph is not one of stream_graph's"
        self.weights: RingWeights = weights

    def zeros(self, streams: int) -> list[Tensor]:
        """States of the plain graph."""
        return [
            torch.zeros(streams, *shape[1:], dtype=torch.int64 if name == "state_frames" else torch.float32).cuda()
            for name, shape in self.shapes.items()
        ]

    def ready(self, ops: RingOps, streams: int, parts: int, pool: RingPool | None = None) -> tuple[Any, list[float]]:
        """A step of so many streams with a full context, as the lane prepares it, and what it says of its times."""
        there = pool or RingPool.empty(self.weights, 2 * streams + 1, FRAMES)
        times: list[float] = []

        def call(samples: Tensor, rows: Tensor) -> tuple[Tensor]:
            return (ring_step(ops, self.weights, there, samples, rows),)

        rows = 1 + torch.randperm(2 * streams, generator=torch.Generator().manual_seed(0))[:streams]
        samples = 0.1 * torch.randn(streams, FRAMES * SHIFT)
        return captured(call, [samples, rows], parts, lambda device_ms: times.append(device_ms())), times

    def step_ms(self, ops: RingOps, streams: int, parts: int = 1) -> tuple[float, float]:
        """Median milliseconds on the device, copies included, and from call to result."""
        ready, times = self.ready(ops, streams, parts)
        for _ in range(CONTEXT_STEPS):
            ready.start()
        times.clear()
        walls = []
        for _ in range(STEPS):
            started = perf_counter()
            ready.start()
            walls.append(perf_counter() - started)
        return float(np.median(times)), 1e3 * float(np.median(walls))


@torch.inference_mode()
def numerics(path: Path) -> None:
    """Largest and mean difference from FP32 of some streams, two of which begin anew, in twenty steps."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    exact = Bench(path, torch.float32)
    for name, dtype in DTYPES.items():
        bench = Bench(path, dtype)
        kinds: dict[str, RingOps | None] = {
            "graph with copies": None,
            "rings, plain": PlainOps(),
            "rings, Triton": TritonOps(),
            "rings, Triton's products": TritonOps(Tuning(plain_by_cublas=False)),
        }
        for kind, ops in kinds.items():
            with guarded(f"numerics {name}, {kind}"):
                print(f"{name}, {kind}: " + differences(exact, bench, ops), flush=True)
    torch.backends.cudnn.allow_tf32 = True


def differences(exact: Bench, bench: Bench, ops: RingOps | None, streams: int = 6) -> str:
    """From FP32's log-probabilities."""
    rng = np.random.default_rng(0)
    rows = 1 + rng.permutation(2 * streams)[:streams]
    pool = RingPool.empty(bench.weights, 2 * streams + 1, FRAMES)
    pool.rings.fill_(torch.nan)
    states, own = exact.zeros(streams), bench.zeros(streams)
    most, means, same = 0.0, [], []
    for step in range(20):
        if step in (5, 16):
            for each in (*states, *own):
                each[step % streams] = 0
            pool.forget(int(rows[step % streams]))
        heard = torch.from_numpy(rng.permutation(streams)[: rng.integers(2, streams + 1)]).cuda()
        samples = torch.from_numpy((0.1 * rng.standard_normal((len(heard), FRAMES * SHIFT))).astype(np.float32)).cuda()
        expected, *after = exact.graph(samples, *(state[heard] for state in states))
        for state, value in zip(states, after, strict=True):
            state[heard] = value
        if ops is None:
            found, *after = bench.graph(samples, *(state[heard] for state in own))
            for state, value in zip(own, after, strict=True):
                state[heard] = value.to(state.dtype)
        else:
            found = ring_step(ops, bench.weights, pool, samples, torch.from_numpy(rows).cuda()[heard])
        apart = (found.float() - expected).abs()
        most = float(max(most, float(apart.max()))) if not apart.isnan().any() else float("nan")
        means.append(float(apart.mean()))
        same.append(float((found.argmax(-1) == expected.argmax(-1)).float().mean()))
    return f"largest {most:.4f}, mean {np.mean(means):.5f}, same label in {100 * np.mean(same):.2f} % of frames"


def times(
    bench: Bench, ops: RingOps, rates: Any, parts_of: tuple[int, ...], batches: tuple[int, ...] = BATCHES
) -> None:
    """By batch, beside the floor."""
    print("batch parts  device ms   wall ms   floor ms  ratio  audio s/s")
    for streams in batches:
        for parts in parts_of:
            if parts > 1 and streams < 64:
                continue
            with guarded(f"batch {streams} in {parts}"):
                device, wall = bench.step_ms(ops, streams, parts)
                least = 1e3 * floor_s(rates, streams)
                heard = streams * FRAMES * SHIFT / 16_000 / wall * 1e3
                ratio = device / least
                print(f"{streams:5d} {parts:5d} {device:10.3f} {wall:9.3f} {least:10.4f} {ratio:6.2f} {heard:10.0f}")
                sys.stdout.flush()


@torch.inference_mode()
def profile(bench: Bench, ops: RingOps, streams: int = 256) -> None:
    """Kernels by the time that they take."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    ready, _ = bench.ready(ops, streams, 1)
    for _ in range(CONTEXT_STEPS):
        ready.start()
    with profiled(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(10):
            ready.start()
    rows = sorted(seen.key_averages(), key=lambda each: -each.device_time_total)
    total = sum(each.device_time_total for each in rows)
    print(f"kernels of a step of {streams}: {total / 10:.1f} us in all, one after the other")
    for each in rows[:25]:
        print(f"{each.device_time_total / 10:9.1f} us {each.count / 10:6.1f} x  {each.key[:110]}")
    sys.stdout.flush()


def repeated_us(call: Callable[[], Any], times: int = 20) -> float:
    """Microseconds of a call in a CUDA graph of several."""
    side: Any = torch.cuda.Stream()
    with torch.cuda.stream(side):
        call()
        call()
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(times):
            call()
    event: Any = torch.cuda.Event
    found = []
    for _ in range(5):
        start, end = event(enable_timing=True), event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        found.append(1e3 * start.elapsed_time(end) / times)
    return float(np.median(found[1:]))


@torch.inference_mode()
def swept(bench: Bench) -> Tuning:
    """The fastest of every switch by itself."""
    weights, tuning = bench.weights, Tuning()
    kind = weights.head.dtype
    streams = 256
    with guarded("sweep attend"):
        found = {}
        width = 3 * weights.width
        for warps in (1, 2, 4):
            with guarded(f"attend, {warps} warps"):
                ops = TritonOps(replace(tuning, attend_warps=warps))
                pool = RingPool.empty(weights, 2 * streams + 1, FRAMES)
                rows = 1 + torch.randperm(2 * streams, device="cuda")[:streams]
                pool.frames.fill_(200)
                turned: Turned = ops.begin(weights, pool, rows, FRAMES)
                qkv = torch.randn(streams * FRAMES, width, device="cuda").to(kind)

                def all_layers(ops: RingOps = ops, pool: RingPool = pool, rows: Tensor = rows, turned: Turned = turned,
                               qkv: Tensor = qkv) -> None:  # fmt: skip
                    for ring in pool.rings:
                        ops.attend(weights, qkv, ring, rows, turned)

                found[warps] = repeated_us(all_layers, 5)
                moved = streams * len(weights.layers) * 2 * 2 * weights.width * (weights.left + FRAMES)
                rate = moved / found[warps] / 1e6
                print(f"attend, {warps} warps: {found[warps]:.1f} us for all layers, {rate:.2f} TB/s")
        tuning = replace(tuning, attend_warps=min(found, key=lambda each: found[each]))
    with guarded("sweep norm"):
        norms = {}
        x = torch.randn(streams * FRAMES, weights.width, device="cuda")
        more = x.to(kind)
        layer = weights.layers[0]
        for norm in ((1, 1), (1, 2), (1, 4), (2, 2), (4, 4), (4, 8)):
            with guarded(f"norm {norm}"):
                ops = TritonOps(replace(tuning, norm=norm))
                norms[norm] = repeated_us(lambda ops=ops: ops.added(x, more, layer.fc2_bias, layer.gain, 1e-5))
                print(f"norm, (rows, warps) {norm}: {norms[norm]:.2f} us")
        tuning = replace(tuning, norm=min(norms, key=lambda each: norms[each]))
    with guarded("sweep listen"):
        firsts = {}
        samples = torch.randn(streams, FRAMES * SHIFT, device="cuda")
        pool, rows = RingPool.empty(weights, streams + 1, FRAMES), torch.arange(1, streams + 1, device="cuda")
        for listen in ((64, 128, 4), (64, 128, 8), (128, 128, 8), (64, 64, 4), (32, 128, 4), (128, 64, 4)):
            with guarded(f"listen {listen}"):
                ops = TritonOps(replace(tuning, listen=listen))
                firsts[listen] = repeated_us(lambda ops=ops: ops.listen(weights, pool, rows, samples))
                print(f"listen with carry, (rows, columns, warps) {listen}: {firsts[listen]:.1f} us")
        tuning = replace(tuning, listen=min(firsts, key=lambda each: firsts[each]))
    products = {}
    for name in PRODUCTS:
        with guarded(f"sweep product {name}"):
            matrix, tiles = product_tiles(bench, name)
            products[matrix] = tiles
    made = replace(tuning, products=products)
    print(f"tuned: {made}", flush=True)
    return made


def warmed(path: Path, dtype: str) -> None:
    """Compile all tiles of all products, each product in a process of its own."""
    command = [sys.executable, __file__, "--model", str(path), "--dtype", dtype, "--compile"]
    for process in [subprocess.Popen([*command, name]) for name in PRODUCTS]:
        process.wait()


class Case:
    """One product of the encoder for so many streams.

    Attributes:
        matrix: Of the product.
        rows: Of the other side.
        call: The product and what follows it, by some operations.
        cublas: By name, what cuBLAS has beside it.
    """

    def __init__(self, weights: RingWeights, name: str, streams: int) -> None:
        layer, width = weights.layers[0], weights.width
        windows = {
            "second": (weights.second, weights.second_bias, 15, 3 * width, 49 * width),
            "third": (weights.third, weights.third_bias, 7, 4 * width, 30 * width),
        }
        self.cublas: dict[str, Callable[[], Any]] = {}
        if name in windows:
            matrix, bias, each, stride, apart = windows[name]
            x: Tensor | Windows = Windows(noise(matrix, streams, apart), each, stride)
            self.rows = streams * each
            flat = noise(matrix, self.rows, len(matrix))
            self.cublas["cuBLAS, windows laid out, nothing behind"] = lambda: torch.mm(flat, matrix)
            self.call: Callable[[TritonOps], Tensor] = lambda ops: ops.gelu(x, matrix, bias, wide=name == "third")
        else:
            matrix = getattr(layer, name)
            self.rows = streams * FRAMES
            left = noise(matrix, self.rows, len(matrix))
            self.cublas["cuBLAS"] = lambda: torch.mm(left, matrix)
            self.call = lambda ops: ops.product(left, matrix)
            if name == "fc1":
                half = layer.fc1_bias.to(matrix.dtype)
                self.call = lambda ops: ops.gelu(left, matrix, layer.fc1_bias)
                self.cublas["cuBLASLt, bias and GELU by tanh"] = lambda: torch._addmm_activation(
                    half, left, matrix, use_gelu=True
                )
        self.matrix: Tensor = matrix

    def with_tile(self, tile: Tile) -> Tensor:
        """By Triton."""
        return self.call(TritonOps(Tuning(products={self.shape: ((0, tile),)})))

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix."""
        return self.matrix.shape[0], self.matrix.shape[1]


def noise(like: Tensor, *shape: int) -> Tensor:
    """Normal numbers in the type of a matrix."""
    return torch.randn(*shape, device="cuda").to(like.dtype)


def product_tiles(bench: Bench, name: str) -> tuple[tuple[int, int], Any]:
    """The fastest tile of one product for every batch that is tried."""
    chosen = []
    for streams in TILED:
        case = Case(bench.weights, name, streams)
        found: dict[Tile | None, float] = {}
        for tile in TILES:
            if case.rows <= SMALL or tile.rows >= LEAST_ROWS:
                with guarded(f"{name} {tile}"):
                    found[tile] = repeated_us(partial(case.with_tile, tile))
        beside = ""
        for other, call in case.cublas.items():
            with guarded(f"{name}, {other}"):
                took = repeated_us(call)
                beside += f"; {other} {took:.1f}"
                if other == "cuBLAS" and name != "fc1":
                    found[None] = took
        best = sorted(found, key=lambda tile: found[tile])
        rate = 2e-6 * case.rows * case.matrix.numel() / found[best[0]]
        some = ", ".join(f"{tuple(tile) if tile else 'cuBLAS'} {found[tile]:.1f}" for tile in best[:4])
        print(f"{name} {case.rows} x {case.shape}: {rate:.0f} TFLOPS at best; {some}{beside} us", flush=True)
        chosen.append((0 if streams == TILED[0] else case.rows * 2 // 3, best[0]))
    return case.shape, tuple(reversed(chosen))


@torch.inference_mode()
def copied(bench: Bench, streams: int, rates: Any) -> None:
    """The graph with its states copied, compiled, as the lane runs graphs that it does not know."""
    from torch.fx.experimental.proxy_tensor import make_fx

    pools = bench.zeros(2 * streams + 1)
    example = [torch.zeros(streams, FRAMES * SHIFT, device="cuda"), *bench.zeros(streams)]
    bench.graph(*example)
    run = torch.compile(make_fx(bench.graph)(*example), dynamic=False)

    def call(samples: Tensor, rows: Tensor) -> tuple[Tensor]:
        log_probs, *after = run(samples, *(pool.index_select(0, rows) for pool in pools))
        for pool, value in zip(pools, after, strict=True):
            pool.index_copy_(0, rows, value)
        return (log_probs,)

    times: list[float] = []
    inputs = [0.1 * torch.randn(streams, FRAMES * SHIFT), 1 + torch.randperm(2 * streams)[:streams]]
    ready = captured(call, inputs, 1, lambda device_ms: times.append(device_ms()))
    for _ in range(CONTEXT_STEPS + STEPS):
        ready.start()
    device = float(np.median(times[CONTEXT_STEPS:]))
    print(f"copied states, compiled, batch {streams}: {device:.3f} ms, {device / 1e3 / floor_s(rates, streams):.1f} x")


def main() -> None:
    """All sections, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help="of numerics, times, profile, sweep, copied")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--compile", choices=PRODUCTS, help="compile a product's tiles and end")
    parser.add_argument("--dtype", choices=DTYPES, default="fp16")
    arguments = parser.parse_args()
    wanted = arguments.sections or ["numerics", "times", "profile", "sweep", "copied"]
    if not arguments.compile:
        print(torch.cuda.get_device_name(), torch.__version__)
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.model or write_random_stream(Path(folder) / "model.onnx", layers=6, left=84)
        if arguments.compile:
            weights = Bench(path, DTYPES[arguments.dtype]).weights
            for tile in TILES:
                with guarded(f"{arguments.compile} {tile}"):
                    Case(weights, arguments.compile, TILED[0]).with_tile(tile)
            return
        if "numerics" in wanted:
            numerics(path)
        bench = Bench(path, DTYPES[arguments.dtype])
        rates = floor(path, FRAMES * SHIFT)
        print(dict(rates))
        with torch.inference_mode():
            if "times" in wanted:
                times(bench, TritonOps(), rates, (1, 2))
            if "profile" in wanted:
                with guarded("profile"):
                    profile(bench, TritonOps())
            if "sweep" in wanted:
                with guarded("compile"):
                    warmed(path, arguments.dtype)
                ops = TritonOps(swept(bench))
                times(bench, ops, rates, (1, 2, 4), (1, 64, 128, 256, 512, 1_024))
                with guarded("profile, tuned"):
                    profile(bench, ops)
            if "copied" in wanted:
                with guarded("copied"):
                    copied(bench, 256, rates)


if __name__ == "__main__":
    main()
