"""This file lists what the fused kernel is compiled of (`kernels/kernel_set.py`)."""

from ...kernels.kernel_set import KernelSet
from . import (
    arrays,
    chains,
    cubic,
    flat,
    kernel,
    layers,
    places,
    plan,
    tables,
    trace,
    transposed_layers,
)

__all__ = ["KERNEL"]

KERNEL = KernelSet(
    "the fused kernel",
    sources=(
        *(arrays, chains, cubic, flat, kernel, layers),
        *(places, plan, tables, trace, transposed_layers),
    ),
    functions=(
        *(tables.fill_tables, tables.adjoint_tables),
        *(kernel.solve_pack, kernel.adjoint_pack),
    ),
)
