"""This file is the registry of engines: the ways to solve a flow, by name.

For training:

- ``fused``: the kernel of `fused/`; float32 on the CPU, needs Numba.
- ``torch``: the readable reference, on any device and in any precision.
- ``cuda``: the fastest engine for rows on a GPU; today it is that of ``torch``.
- ``adaptive``: error-controlled steps with the exact divergence and the adjoint method;
  slow, and free of the bias of fixed steps.
- ``paper``: the paper's configuration, ``adaptive`` with Hutchinson's noisy divergence.

For weights and for figures that are quoted, in float64 and without gradients:

- ``precise``: error-controlled steps.
- ``checked``: fixed steps of the kernel, every row checked, the rest by ``precise``.
- ``trace``: ``precise`` for a network of any form, with the trace by autograd.

An engine is added by one entry of `REGISTRY`. All of them pass one law, in
`tests/flows/cnf/test_engines.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any

import torch

from ..errors import ArgumentError
from ..kernels.threads import threads_of_each
from .engine import AdaptiveEngine, Engine, TorchEngine
from .paper_engine import AdjointEngine, ExactTraceEngine

__all__ = [
    "ENGINES",
    "REGISTRY",
    "EngineEntry",
    "EngineFactory",
    "EngineSettings",
    "choose_engine",
    "prepare_kernel",
    "weighing_engine",
]

_LEAST_CHECKED = 1e-6

EngineFactory = Callable[[int], Engine]
"""Makes an engine of a number of steps."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What an engine is made with; each takes what concerns it.

    Args:
        num_steps: Of engines with fixed steps.
        tolerance: Relative and absolute, of engines that choose their steps.
        num_threads: At most; results do not depend on it.
    """

    num_steps: int = 10
    tolerance: float = 1e-5
    num_threads: int = 1


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """One engine of the registry.

    Args:
        make: Makes it; called only where nothing is missing.
        missing: What it needs and this machine lacks, in words; empty if it can run.
            May compile the kernel, calling its argument before.
        trains: Whether ends and log-determinants have gradients.
        dtype: The only precision of rows that it solves; None for any.
        device: The only type of device that it runs on; None for any.
    """

    make: Callable[[EngineSettings], Engine]
    missing: Callable[[Callable[[], None] | None], str] = lambda _: ""
    trains: bool = True
    dtype: torch.dtype | None = None
    device: str | None = None

    def is_available(self, on_compile: Callable[[], None] | None = None) -> bool:
        """Whether it can be used on this machine."""
        return not self.missing(on_compile)


def _kernel(on_compile: Callable[[], None] | None) -> str:
    return "" if prepare_kernel(on_compile) else "Numba"


def _gpu(_: Callable[[], None] | None) -> str:
    return "" if torch.cuda.is_available() else "a GPU that CUDA can use"


def _with_kernel(module: str, name: str) -> Any:
    """What a module gives that cannot be imported without Numba."""
    return getattr(import_module(module, __package__), name)


REGISTRY: Mapping[str, EngineEntry] = MappingProxyType(
    {
        "fused": EngineEntry(
            lambda s: _with_kernel(".fused.engine", "FusedEngine")(
                s.num_steps, s.num_threads
            ),
            missing=_kernel,
            dtype=torch.float32,
            device="cpu",
        ),
        "torch": EngineEntry(lambda s: TorchEngine(s.num_steps)),
        "cuda": EngineEntry(
            lambda s: TorchEngine(s.num_steps), missing=_gpu, device="cuda"
        ),
        "adaptive": EngineEntry(
            lambda s: AdjointEngine(tolerance=s.tolerance, is_exact=True)
        ),
        "paper": EngineEntry(lambda s: AdjointEngine(tolerance=s.tolerance)),
        "precise": EngineEntry(
            lambda s: AdaptiveEngine(s.tolerance), trains=False, dtype=torch.float64
        ),
        "checked": EngineEntry(
            lambda s: _with_kernel(".checked", "CheckedEngine")(
                AdaptiveEngine(s.tolerance), s.num_threads
            ),
            missing=_kernel,
            trains=False,
            dtype=torch.float64,
            device="cpu",
        ),
        "trace": EngineEntry(
            lambda s: ExactTraceEngine(s.tolerance), trains=False, dtype=torch.float64
        ),
    }
)

ENGINES = ("auto", *(name for name, entry in REGISTRY.items() if entry.trains))
"""Names that `choose_engine` knows: those that can train, and the best of them here."""


def choose_engine(
    name: str,
    *,
    device: str = "cpu",
    on_compile: Callable[[], None] | None = None,
    processes: int = 1,
) -> EngineFactory:
    """Return what makes the training engine of a name.

    Args:
        name: One of `ENGINES`; ``auto`` is the fastest that can be used here.
        device: Type of the device that the flow is on, ``cpu`` or ``cuda``.
        on_compile: Called if a kernel has to be compiled first, which takes a while.
        processes: How many processes share the processors of this machine.

    Raises:
        ArgumentError: If there is no such engine, or it cannot be used here.

    Example:
        >>> choose_engine("torch")(12)
        TorchEngine(num_steps=12)
    """
    if name not in ENGINES:
        known = f"one of {', '.join(ENGINES)}"
        raise ArgumentError.at("engine", "unknown", known, name)
    if name == "auto":
        fastest = {"cpu": "fused", "cuda": "cuda"}.get(device, "torch")
        name = fastest if REGISTRY[fastest].is_available(on_compile) else "torch"
    entry = REGISTRY[name]
    if entry.device not in (None, device):
        wrong = f"it runs on the {entry.device} only"
        other = "engine torch, or that device"
        raise ArgumentError.at(f"engine {name}", wrong, other, f"device {device}")
    missing = entry.missing(on_compile)
    if missing:
        raise ArgumentError.at(
            f"engine {name}", "cannot be used here", missing, "none that works"
        )
    threads = threads_of_each(processes)
    return lambda num_steps: entry.make(
        EngineSettings(num_steps=num_steps, num_threads=threads)
    )


def weighing_engine(tolerance: float) -> Engine:
    """Return what solves a float64 flow on the CPU for weights.

    Args:
        tolerance: Of the adaptive solver, which solves all rows where Numba is missing
            or the tolerance is smaller than fixed steps in single precision can keep.

    Example:
        >>> weighing_engine(1e-9)
        AdaptiveEngine(tolerance=1e-09, rows=4096, most_work=inf)
    """
    is_checked = tolerance >= _LEAST_CHECKED and _has_numba()
    threads = threads_of_each()
    return REGISTRY["checked" if is_checked else "precise"].make(
        EngineSettings(tolerance=tolerance, num_threads=threads)
    )


def prepare_kernel(on_compile: Callable[[], None] | None = None) -> bool:
    """Have the fused kernel compiled; return whether it can be used.

    Args:
        on_compile: Called before, as it takes a while.
    """
    return _has_numba() and bool(
        _with_kernel(".fused.readiness", "is_usable")(on_compile)
    )


def _has_numba() -> bool:
    """Whether Numba is there and can be imported."""
    try:
        import_module("numba")
    except Exception:  # it is missing, refuses a NumPy, or has lost its LLVM
        return False
    return True
