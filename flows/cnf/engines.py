"""This file picks the engines that flows are trained and weighed with.

- ``fused``: the kernel of `fused/`; float32 on the CPU, needs Numba.
- ``torch``: the readable reference, on any device and in any precision.
- ``adaptive``: error-controlled steps at 1e-5 with the exact divergence and the adjoint
  method; slow, and free of the bias of fixed steps.
- ``paper``: the paper's configuration, ``adaptive`` with Hutchinson's noisy divergence.
- ``auto``: fused where it can be used, else torch.

``adaptive`` and ``paper`` choose their steps themselves, whatever they are made with.
Figures that are quoted and weights never come from these. J is certified by
`AdaptiveEngine`; weights use it too, or `CheckedEngine`, which is as exact.
"""

import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import torch

from ..errors import ArgumentError, Problem
from .engine import AdaptiveEngine, Engine, TorchEngine
from .paper_engine import AdjointEngine

__all__ = [
    "ENGINES",
    "EngineFactory",
    "choose_engine",
    "prepare_kernel",
    "weighing_engine",
]

ENGINES = ("auto", "fused", "torch", "adaptive", "paper")

_MOST_THREADS = 4
_LEAST_CHECKED = 1e-6

EngineFactory = Callable[[int], Engine]
"""Makes an engine of a number of steps."""


def choose_engine(
    name: str, *, on_compile: Callable[[], None] | None = None, processes: int = 1
) -> EngineFactory:
    """Return what makes the training engine of a name.

    Args:
        name: One of `ENGINES`.
        on_compile: Called if a kernel has to be compiled first, which takes a while.
        processes: How many processes share the processors of this machine.

    Raises:
        ArgumentError: If there is no such engine, or it cannot be used here.
    """
    if name not in ENGINES:
        raise ArgumentError(
            Problem("engine", "unknown", f"one of {', '.join(ENGINES)}", name)
        )
    if name in ("adaptive", "paper"):
        adjoint = AdjointEngine(is_exact=name == "adaptive")
        return lambda _: adjoint
    if name == "torch":
        return TorchEngine
    if not prepare_kernel(on_compile):
        if name == "fused":
            raise ArgumentError(
                Problem(
                    "engine",
                    "fused needs Numba",
                    "it installed",
                    "none that works",
                )
            )
        return TorchEngine
    fused = import_module(".fused.engine", __package__)
    # Results do not depend on the number of threads.
    threads = max(1, min(_MOST_THREADS, (os.cpu_count() or 1) // processes))
    return partial(fused.FusedEngine, num_threads=threads)


def weighing_engine(tolerance: float) -> Engine:
    """Return what solves a float64 flow on the CPU for weights.

    Args:
        tolerance: Of the adaptive solver, which solves all rows where Numba is missing
            or the tolerance is smaller than fixed steps in single precision can keep.
    """
    adaptive = AdaptiveEngine(tolerance)
    if tolerance < _LEAST_CHECKED or not _has_numba():
        return adaptive
    checked = import_module(".checked", __package__)
    threads = min(_MOST_THREADS, torch.get_num_threads())
    engine: Engine = checked.CheckedEngine(adaptive, threads)
    return engine


def prepare_kernel(on_compile: Callable[[], None] | None = None) -> bool:
    """Have the fused kernel compiled; return whether it can be used.

    Args:
        on_compile: Called before, as it takes a while.
    """
    return _has_numba() and bool(
        import_module(".fused.engine", __package__).is_usable(on_compile)
    )


def _has_numba() -> bool:
    """Whether Numba is there and can be imported."""
    if find_spec("numba") is None:
        return False
    try:
        import_module("numba")
    except Exception:  # it refuses a NumPy, or has lost its LLVM
        return False
    return True
