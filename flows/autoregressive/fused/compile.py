"""This file lists what the kernel is compiled of (`kernels/kernel_set.py`)."""

from ...kernels.kernel_set import KernelSet
from . import kernel, mixtures, networks, plan

__all__ = ["KERNEL"]

KERNEL = KernelSet(
    "the kernel of autoregressive flows",
    sources=(kernel, mixtures, networks, plan),
    functions=(kernel.score_columns, kernel.adjoint_columns),
)
