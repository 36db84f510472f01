"""This file says whether the kernel runs on this machine, and compiles it."""

from collections.abc import Callable

import torch

from ...flow.structure import StateBlock, Structure
from ..conditioner import Conditioner, NetworkConfig
from .compile import KERNEL
from .differentiable import FusedDensity

__all__ = ["is_usable"]


def is_usable(on_compile: Callable[[], None] | None = None) -> bool:
    """Whether the kernel runs on this machine; warns if it does not.

    Args:
        on_compile: called first if it has to be compiled (some seconds, once).
    """
    return KERNEL.is_usable(_score_one, on_compile)


@torch.enable_grad()
def _score_one() -> None:
    """Run all of the kernel once."""
    structure = Structure((StateBlock("a", (0,), 0, (), (0,)),), 1)
    conditioner = Conditioner(structure, NetworkConfig(), torch.Generator()).float()
    read, residual = torch.zeros(1, 2).float(), torch.zeros(1, 1).float()
    found = FusedDensity()(conditioner, read, residual)
    found.sum().backward()  # type: ignore[no-untyped-call]
