"""This file picks the engine that a flow is trained with.

- ``fused``: the kernel of `fused.py`; float32 on the CPU, needs Numba.
- ``torch``: the readable reference, on any device and in any precision.
- ``auto``: fused where it can be used, else torch.

Figures that are quoted and weights never come from these: they use the adaptive engine.
"""

import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec

from .engine import Engine, TorchEngine

__all__ = ["ENGINES", "EngineFactory", "choose_engine"]

ENGINES = ("auto", "fused", "torch")

_MOST_THREADS = 4

EngineFactory = Callable[[int], Engine]
"""Makes an engine of a number of steps."""


def choose_engine(
    name: str, *, on_compile: Callable[[], None] | None = None
) -> EngineFactory:
    """Return what makes the training engine of a name.

    Args:
        name: One of `ENGINES`.
        on_compile: Called if a kernel has to be compiled first, which takes a while.

    Raises:
        ValueError: If there is no such engine, or it cannot be used here.
    """
    if name not in ENGINES:
        raise ValueError(
            f"engine: unknown; expected one of {', '.join(ENGINES)}; got {name}"
        )
    has_numba = find_spec("numba") is not None
    if name == "fused" and not has_numba:
        raise ValueError("engine: fused needs Numba; expected it installed; got none")
    if name == "torch" or not has_numba:
        return TorchEngine
    fused = import_module(".fused", __package__)
    fused.warm_up(on_compile)
    # Results do not depend on the number of threads.
    threads = min(_MOST_THREADS, os.cpu_count() or 1)
    return partial(fused.FusedEngine, num_threads=threads)
