"""The one place that knows which TensorRT there is: 10.x, 11.x, or TensorRT-RTX, which builds without a GPU.

TensorRT 11 has neither weak typing nor precision flags: what is FP16 or INT8 is in the graph, so networks are strongly
typed with every version. RTX builds for the compute capabilities that it is told; the others for the GPU at hand.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pipelines.errors import AmiraError, unknown
from pipelines.registry import Unavailable

Kind = Literal["tensorrt", "tensorrt_rtx"]
OLDEST = 10
_DEVICES = ("/dev/nvidiactl", "/dev/dxg")


def has_gpu() -> bool:
    """Whether a driver of NVIDIA's shows a device."""
    return any(Path(device).exists() for device in _DEVICES)


def problem(kind: Kind = "tensorrt") -> Unavailable | None:
    """Why engines cannot run here, and what would help. Cheap: nothing is imported."""
    if not has_gpu():
        return Unavailable("there is no NVIDIA GPU", "Use a machine with one and its driver, or acoustic/ort@fp32.")
    for module, package in ((kind, "tensorrt"), ("cuda.bindings", "cuda-bindings")):
        if find_spec(module.partition(".")[0]) is None:
            return Unavailable(f"{package} is not installed", f"pip install {package}")
    return None


@dataclass(frozen=True, slots=True)
class Api:
    """A TensorRT.

    Attributes:
        kind: Which one.
        module: Its Python module.
    """

    kind: Kind
    module: Any

    @property
    def version(self) -> str:
        """Its version."""
        return str(self.module.__version__)

    @property
    def builds_for(self) -> tuple[str, ...]:
        """Compute capabilities that it can be told to build for; none where it builds for the GPU at hand."""
        if self.kind != "tensorrt_rtx":
            return ()
        names = (name for name in dir(self.module.ComputeCapability) if name.startswith("SM"))
        return tuple(sorted((name.lower() for name in names), key=lambda name: int(name[2:])))

    @property
    def keeps_timings(self) -> bool:
        """Whether it has a timing cache: RTX chooses its kernels on the user's machine."""
        return self.kind == "tensorrt"

    def logger(self) -> Any:
        """One that writes errors to stderr: the library's own writes to stdout."""
        module = self.module

        class Log(module.ILogger):  # type: ignore[misc, name-defined]
            """Errors alone."""

            def __init__(self) -> None:
                module.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                """See TensorRT's `ILogger`."""
                if severity in (module.ILogger.Severity.INTERNAL_ERROR, module.ILogger.Severity.ERROR):
                    print(f"{module.__name__}: {message}", file=sys.stderr)

        return Log()

    def network_flags(self) -> int:
        """Strong typing, where it has to be asked for."""
        flag = getattr(self.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        return 0 if flag is None else 1 << int(flag)

    def configure(self, config: Any, target: str | None, *, refit: bool, version_compatible: bool) -> None:
        """Set what differs between versions.

        Raises:
            AmiraError: It cannot build for `target`.
        """
        for wanted, name in ((refit, "REFIT"), (version_compatible, "VERSION_COMPATIBLE")):
            flag = getattr(self.module.BuilderFlag, name, None)
            if wanted and flag is None:
                raise AmiraError(f"{self.kind} {self.version} has no option {name}. Leave it out")
            if wanted:
                config.set_flag(flag)
        if target is None:
            return
        if target not in self.builds_for:
            raise unknown("compute capability", target, self.builds_for or ("that of the GPU at hand",),
                          "TensorRT-RTX alone builds for others: pip install 'amira-asr[rtx]'")  # fmt: skip
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(self.module.ComputeCapability, target.upper()), 0)


def load(kind: Kind = "tensorrt") -> Api:
    """Import a TensorRT.

    Raises:
        AmiraError: It is not installed, or older than 10.
    """
    extra = "tensorrt" if kind == "tensorrt" else "'amira-asr[rtx]'"
    try:
        module = import_module(kind)
    except ImportError as error:
        raise AmiraError(f"{kind} is not installed or does not load: {error}. pip install {extra}") from error
    found = Api(kind, module)
    if kind == "tensorrt" and int(found.version.split(".")[0]) < OLDEST:
        raise AmiraError(f"TensorRT {found.version} is older than {OLDEST}. pip install --upgrade tensorrt")
    return found
