"""This file makes the autoregressive flow a kind of flow (`flow/kinds.py`)."""

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from daphne_bridge.language.nearest import or_nearest

from ..errors import ArgumentError
from ..flow.column_networks import lengths_of
from ..flow.kinds import Kind
from ..flow.normalised_flow import normalisation_lengths
from ..flow.quadratic_forms import lengths_of_forms
from ..flow.structure import Structure
from ..kernels.threads import threads_of_each
from .conditioner import Conditioner, NetworkConfig, contexts_of, reads_of, sized
from .flow import AutoregressiveFlow

__all__ = ["KIND"]

_ENGINES = ("auto", "fused", "torch")
_MOST_UNITS = 192
"""Of a layer, up to which the kernel is the faster; torch's products are for more."""


def _lengths(structure: Structure, config: NetworkConfig) -> Mapping[str, int]:
    """Lengths of what grows with columns or settings."""
    config = sized(config, structure)
    reads, outputs = reads_of(structure, config), 3 * config.components
    found = lengths_of("conditioner", reads, config, outputs)
    contexts = contexts_of(structure, config)
    if contexts:
        shape, name = config.of_contexts, "conditioner.contexts"
        found |= lengths_of(name, contexts, shape, config.context)
        num, units = config.forms, shape.hidden
        if num:
            found |= lengths_of_forms(f"{name}.forms", contexts, num, units)
    if config.log_beyond and not structure.factors:
        found["normalisation.observed_beyond"] = structure.observed_dim
    return normalisation_lengths(structure) | found


def _solved_with(
    flow: AutoregressiveFlow,
    engine: str,
    *,
    on_compile: Callable[[], None] | None = None,
    processes: int = 1,
) -> AutoregressiveFlow:
    """See `flow.kinds.solved_with`: densities by the compiled kernel, or by torch."""
    if engine not in _ENGINES:
        raise ArgumentError.at(
            "engine",
            "unknown to a flow of kind autoregressive",
            or_nearest(f"one of {', '.join(_ENGINES)}", engine, _ENGINES),
            engine,
        )
    device = flow.device.type
    is_wide = flow.config.hidden > _MOST_UNITS
    if engine == "torch" or (engine == "auto" and (device != "cpu" or is_wide)):
        return flow.scored_by(Conditioner.log_prob)
    if device != "cpu":
        wrong, other = "it runs on the cpu only", "engine torch, or that device"
        raise ArgumentError.at(f"engine {engine}", wrong, other, f"device {device}")
    problem = _kernel_problem(on_compile)
    if problem and engine == "auto":
        return flow.scored_by(Conditioner.log_prob)
    if problem:
        raise ArgumentError.at(
            f"engine {engine}",
            f"cannot be used here ({problem})",
            "Numba that works, or engine torch",
        )
    threads = threads_of_each(processes)
    fused: Any = import_module(".fused.differentiable", __package__)
    return flow.scored_by(
        fused.FusedDensity(threads),
        for_mean=fused.FusedDensity(threads, for_mean=True),
    )


def _kernel_problem(on_compile: Callable[[], None] | None) -> str:
    """Why the kernel cannot be used here; warns, but for a Numba that is not there."""
    try:
        readiness: Any = import_module(".fused.readiness", __package__)
    except ModuleNotFoundError as error:
        return str(error)
    except Exception as error:  # Numba refuses a NumPy, or has lost its LLVM
        problem = f"{type(error).__name__}: {str(error)[:200]}"
        warnings.warn(
            f"the kernel of autoregressive flows cannot be used here ({problem}); work "
            "goes on without it, which takes longer",
            RuntimeWarning,
            stacklevel=4,
        )
        return problem
    return "" if readiness.is_usable(on_compile) else "it does not run"


KIND = Kind(
    "autoregressive",
    NetworkConfig,
    AutoregressiveFlow,
    solved_with=_solved_with,
    lengths=_lengths,
    training={
        "learning_rate": 2e-3,
        "final_learning_rate": 1e-5,
        "warm_start_fraction": 0.8,
        "warm_start_seconds": 1e8,
        "warm_start_learning_rate": 1.6e-2,
    },
)
