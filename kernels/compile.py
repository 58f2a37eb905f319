"""How loops are compiled: the one place that holds numba's policy.

The policy: explicit signatures compiled at once (a first request never pays), cached on disk, no fastmath, the GIL
released, LLVM's own vectorisers off (what is a vector is written as one, see `kernels.simd`), and calls through the
compiled function's entry point.

What a call costs on one 2.6 GHz core, arguments two arrays (ratios matter, not the numbers):
    numba dispatcher 570 ns, entry point 280 ns, entry point of a function of three integers 120 ns,
    ctypes with three integers 840 ns, `array.ctypes.data` alone 2,000 ns.
(`experiments/003-kernels` has what it is now; `kernels.direct` has functions that CPython calls without any of these.)
So the entry point is called directly: it skips the dispatcher's look at the types and checks the item size itself,
`simd.usable` checks layout, kind, byte order and writability in machine code, and Python asks for the number of
dimensions alone, which is cheap. Pointers as integers would be cheaper still, but getting
them out of an array in Python costs more than it saves. Holding the GIL: no gain beyond the noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from threading import RLock
from time import perf_counter_ns
from typing import Any

_compiling = RLock()
_OPTIONS: dict[str, Any] = {"fastmath": False, "boundscheck": False}


@dataclass(frozen=True, slots=True)
class Loop:
    """A kernel ready to be called.

    Attributes:
        call: The function; a negative result says that an array is not one that it takes (ask `refuse` why). The
            arrays' numbers of dimensions must be right: `kernels.kernel_set` sees to that.
        source: The Python function that was compiled, `None` where nothing is compiled.
        signature: numba's signature of it.
        compile_ns: What compiling it, or loading it from the cache, took.
        cached: It came from the cache.
        dispatcher: numba's object around it.
        allocates: See `compile_loop`.
        constants: Arguments that `call` adds behind those of the operation.
    """

    call: Callable[..., int]
    source: Callable[..., Any] | None = None
    signature: str = ""
    compile_ns: int = 0
    cached: bool = False
    dispatcher: Any = None
    allocates: bool = False
    constants: tuple[Any, ...] = ()

    def with_constants(self, *constants: Any) -> Loop:
        """The same loop, called with these arguments behind those of its operation."""
        inner = self.call
        return replace(self, call=lambda *arguments: inner(*arguments, *constants), constants=constants)

    def assembly(self) -> str:
        """The machine code of the loop, without the wrappers around it.

        Compiled anew: numba keeps nothing to look at beside what it caches.
        """
        if self.source is None:
            return ""
        dispatcher = _compile(self.source, self.signature, None, allocates=self.allocates)
        [compiled] = dispatcher.overloads.values()
        lines = compiled.library.get_asm_str().splitlines()
        start = lines.index(f"{compiled.fndesc.mangled_name}:")
        end = next(i for i in range(start, len(lines)) if lines[i].startswith(".Lfunc_end"))
        return "\n".join(lines[start:end])


@contextmanager
def _no_vectorisation() -> Iterator[None]:
    """Switch LLVM's loop and SLP vectorisers off for what is compiled inside the block."""
    from numba.core import config as numba_config

    config: Any = numba_config
    _align_loops()
    with _compiling:
        before = config.LOOP_VECTORIZE, config.SLP_VECTORIZE
        config.LOOP_VECTORIZE, config.SLP_VECTORIZE = 0, 0
        try:
            yield
        finally:
            config.LOOP_VECTORIZE, config.SLP_VECTORIZE = before


@cache
def _align_loops() -> None:
    """Let LLVM begin the innermost loops on multiples of 32 bytes, for the rest of the process.

    A loop of a dozen and a half vector instructions that lies badly across them takes much longer, and how it lies
    changes with every unrelated line above it.
    """
    import platform

    from llvmlite import binding  # type: ignore[import-untyped]

    if platform.machine() in ("x86_64", "AMD64"):
        binding.set_option("amira", "-x86-experimental-pref-innermost-loop-alignment=5")


@cache
def _shared_sources() -> str:
    """A digest of the modules that end up in every kernel; numba itself looks at the kernel's own file only."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in (here / "compile.py", *sorted(here.glob("simd*.py")), *sorted(here.glob("simd/*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _cache_class() -> Any:
    from numba.core import caching

    untyped: Any = caching

    class KernelCache(untyped.FunctionCache):  # type: ignore[misc]
        """numba's cache, invalid as well when the modules shared by all kernels change."""

        def _index_key(self, sig: Any, codegen: Any) -> Any:
            return (*super()._index_key(sig, codegen), _shared_sources())

    return KernelCache


def _compile(function: Callable[..., Any], signature: str, disk_cache: Any, *, allocates: bool = False) -> Any:
    import numba

    options: dict[str, Any] = _OPTIONS | {"nogil": True, "_nrt": allocates}
    dispatcher: Any = numba.njit(**options)(function)
    if disk_cache is not None:
        dispatcher._cache = disk_cache(function)
    with _no_vectorisation():
        dispatcher.compile(signature)
    dispatcher.disable_compile()
    return dispatcher


def compile_function(function: Callable[..., int], parameters: int) -> Any:
    """Compile a function of that many addresses or counts to the address of its result, for `kernels.direct`.

    Returns numba's object around it; its `address` is valid while the object lives.
    """
    from numba.core import ccallback, sigutils

    compiler: Any = ccallback
    signatures: Any = sigutils
    signature = f"intp({', '.join(['intp'] * parameters)})"
    made = compiler.CFunc(function, signatures.normalize_signature(signature), {}, _OPTIONS | {"_nrt": False})
    made._cache = _cache_class()(function)
    with _no_vectorisation():
        made.compile()
    return made


def compile_loop(signature: str, *, allocates: bool = False) -> Callable[[Callable[..., Any]], Loop]:
    """Compile a loop for one signature, now, or take it from the cache.

    The function may close over integers, strings and modules only: they are part of the cache's key.

    Args:
        signature: numba's.
        allocates: It makes arrays of its own. Without, nothing in it is reference-counted: in a short call the eight
            atomic operations on two arrays took longer than converting 1,600 samples does.
    """

    def compile_now(function: Callable[..., Any]) -> Loop:
        start_ns = perf_counter_ns()
        dispatcher = _compile(function, signature, _cache_class(), allocates=allocates)
        [compiled] = dispatcher.overloads.values()
        return Loop(
            compiled.entry_point,
            function,
            signature,
            perf_counter_ns() - start_ns,
            bool(sum(dispatcher.stats.cache_hits.values())),
            dispatcher,
            allocates,
        )

    return compile_now
