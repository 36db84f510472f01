"""This file says whether the fused kernel runs on this machine, and compiles it.

It is compiled when first used, for blocks of all sizes, and kept in the user's cache
folder under a hash of its sources (`compile.py`). `warm_up` does it with notice.
"""

from collections.abc import Callable

import torch

from ...flow.structure import StateBlock, Structure
from .compile import KERNEL
from .engine import solve_fused
from .plan import make_plan
from .preparation import FieldParameters

__all__ = ["is_usable", "warm_up"]


def warm_up(on_compile: Callable[[], None] | None = None) -> None:
    """Compile the kernel, or read it from the cache.

    Args:
        on_compile: called first if the kernel has to be compiled (some 20 s, once).
    """
    KERNEL.warm_up(_solve_one, on_compile)


def is_usable(on_compile: Callable[[], None] | None = None) -> bool:
    """Whether the kernel runs on this machine; warns if it does not.

    Args:
        on_compile: see `warm_up`.
    """
    return KERNEL.is_usable(_solve_one, on_compile)


@torch.enable_grad()
def _solve_one() -> None:
    """Run all of the kernel once: its parameters, too, have gradients."""
    plan = make_plan(
        Structure((StateBlock("a", (0,), 0, (), (0,)),), 1), [1], 2, residual=False
    )
    one = torch.ones(1, requires_grad=True)
    all_features = torch.ones(plan.features, requires_grad=True)
    parameters = FieldParameters((one, one), one, *[all_features] * 4)
    start, observed = torch.zeros(1, 1, requires_grad=True), torch.zeros(1, 1)
    end, log_det = solve_fused(plan, parameters, start, observed, torch.ones(1), 1)
    (end.sum() + log_det.sum()).backward()  # type: ignore[no-untyped-call]
