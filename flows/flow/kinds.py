"""This file is the registry of flow kinds, and builds a flow of any of them.

A kind is one folder beside `cnf/` and one line in `KINDS`. The module of the line holds
a value `KIND` (see `Kind`), and is imported when a flow of the kind is first wanted.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor

from daphne_bridge.graph.graph import Graph
from daphne_bridge.language.nearest import or_nearest

from ..errors import ArgumentError
from ..model.layout import Layout
from .building import LaidOutModel, build_structure, inverse_of, structure_of
from .completed import Completed
from .protocol import Flow, Stepped
from .structure import Structure

__all__ = [
    "KINDS",
    "Kind",
    "build_flow",
    "certified",
    "finer",
    "for_weights",
    "in_steps",
    "is_solved",
    "kind_of",
    "kinds_with",
    "solved_with",
]

KINDS = {
    "cnf": "flows.cnf.kind",
    "finite": "flows.finite.kind",
    "autoregressive": "flows.autoregressive.kind",
    "structured-gaussian": "flows.structured_gaussian.kind",
}
"""Module of each kind, by the kind's name."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of flow brings.

    Args:
        name: its key in `KINDS`.
        config: a frozen dataclass of plain fields with defaults (`settings.py`), the
            shape of a flow.
        build: a new flow of a structure, a config and a seed; equal seeds give equal
            weights.
        for_weights: see the function of this name; the flow in float64 on the CPU if
            None.
        certified: see the function of this name; as `for_weights` if None.
        solved_with: see the function of this name; None where there is one way alone.
        lengths: of tensors in the flow's state, by name, counted from structure and
            config without making anything; a file that lacks them is refused.
        structure: that of the inverse with what the kind needs of the graph besides,
            and of the data if there is one data set; None for the edges or factors of
            `building.prepare_structure`.
        begin: brings a flow of one data set, its normalisation fitted, near the
            posterior before it is trained.
        training: settings of training (`training.config`) that are other than those of
            all kinds unless a configuration says more.
    """

    name: str
    config: type
    build: Callable[[Structure, Any, int], Flow]
    for_weights: Callable[[Any, float], Flow] | None = None
    certified: Callable[[Any, float], Flow] | None = None
    solved_with: Callable[..., Flow] | None = None
    lengths: Callable[[Structure, Any], Mapping[str, int]] | None = None
    structure: Callable[[Structure, Graph, Layout, Tensor | None], Structure] | None = (
        None
    )
    begin: Callable[[Any, Any, Tensor], None] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)


def kind_of(name: str) -> Kind:
    """The kind of a name.

    Raises:
        ArgumentError: if there is no such kind.
    """
    if name not in KINDS:
        raise ArgumentError.at(
            "kind",
            "unknown kind of flow",
            or_nearest(f"one of {', '.join(KINDS)}", name, KINDS),
            name,
        )
    found: Kind = import_module(KINDS[name]).KIND
    return found


def kinds_with(setting: str) -> list[str]:
    """The names of the kinds whose flows have a setting.

    Example:
        >>> kinds_with("last_layer_scale")
        ['cnf', 'autoregressive']
    """
    return [
        name
        for name in KINDS
        if setting in {each.name for each in fields(kind_of(name).config)}
    ]


def build_flow(
    target: Structure | LaidOutModel,
    config: Any = None,
    *,
    kind: str = "cnf",
    seed: int = 0,
    nuisances: int | Mapping[str, int] = 0,
) -> Flow:
    """A new flow of any kind; equal seeds give equal weights.

    Args:
        target: a structure, or a model whose structure is built first.
        config: a value of the kind's config; its defaults if None.
        kind: a key of `KINDS`.
        seed: of the weights, and of the draws that a model's structure is built from.
        nuisances: of a model's structure: nuisance columns per latent, or per latent's
            name (others get 0).

    Raises:
        ArgumentError: if there is no such kind, the config is of another, or a latent
            of the model has no continuous value.

    Example:
        >>> from flows.flow.structure import StateBlock, Structure
        >>> block = StateBlock("z", (0,), 0, (), (0,))
        >>> flow = build_flow(Structure((block,), observed_dim=1))
        >>> flow.kind, flow.structure.names
        ('cnf', ('z',))
    """
    chosen = kind_of(kind)
    config = chosen.config() if config is None else config
    if not isinstance(config, chosen.config):
        raise ArgumentError.at(
            "config",
            f"not of a flow of kind {kind}",
            chosen.config.__name__,
            type(config).__name__,
        )
    if not isinstance(target, Structure):
        target = _structure(target, chosen, nuisances, seed)
    return chosen.build(target, config, seed)


def _structure(
    model: LaidOutModel, kind: Kind, nuisances: int | Mapping[str, int], seed: int
) -> Structure:
    if kind.structure is None:
        return structure_of(model, nuisances, seed=seed)
    inverse = inverse_of(model.graph, model.layout)
    edges = build_structure(inverse, model.layout, nuisances)
    return kind.structure(edges, model.graph, model.layout, None)


def for_weights(flow: Flow, tolerance: float = 1e-6) -> Flow:
    """The flow whose densities may enter weights: float64, exact, checked row by row.

    The given flow is left as it is; a flow that came from here comes back itself.

    Args:
        flow: of any kind, in any precision.
        tolerance: of the solver, if it has one.
    """
    if isinstance(flow, Completed):
        return _around(flow, for_weights(flow.inner, tolerance))
    kind = kind_of(flow.kind)
    if kind.for_weights is not None:
        return kind.for_weights(flow, tolerance)
    if flow.dtype == torch.float64 and flow.device.type == "cpu":
        return flow
    return copy.deepcopy(flow).to("cpu").to(torch.float64)


def certified(flow: Flow, tolerance: float = 1e-6) -> Flow:
    """The flow that quoted figures are measured with: as exact as its kind can be.

    Args:
        flow: of any kind, in any precision; left as it is.
        tolerance: of the solver, if it has one.
    """
    if isinstance(flow, Completed):
        return _around(flow, certified(flow.inner, tolerance))
    kind = kind_of(flow.kind)
    return (kind.certified or for_weights)(flow, tolerance)


def is_solved(flow: Flow) -> bool:
    """Whether a solver carries the flow, or the one that it is around."""
    if isinstance(flow, Completed):
        return is_solved(flow.inner)
    return isinstance(flow, Stepped)


def in_steps(flow: Flow, num_steps: int) -> Flow:
    """A view of the flow, of the same parameters, solved in so many steps.

    One without a solver comes back itself.
    """
    return _solved(flow, lambda solved: solved.in_steps(num_steps))


def finer(flow: Flow, factor: int) -> Flow:
    """A view of the flow, of the same parameters, solved in more steps, likewise."""
    return _solved(flow, lambda solved: solved.finer(factor))


def _solved(flow: Flow, change: Callable[[Any], Any]) -> Flow:
    if isinstance(flow, Completed):
        return _around(flow, _solved(flow.inner, change))
    changed: Flow = change(flow) if isinstance(flow, Stepped) else flow
    return changed


def _around(flow: Completed, inner: Flow) -> Flow:
    """The flow around another version of its inner one; itself if that is the same."""
    return cast("Flow", flow) if inner is flow.inner else flow.around(inner)


def solved_with(
    flow: Flow,
    engine: str,
    *,
    on_compile: Callable[[], None] | None = None,
    processes: int = 1,
) -> Flow:
    """A view of the flow, of the same parameters, that an engine solves in training.

    Args:
        flow: of any kind.
        engine: a name that the kind knows; ``auto`` for the fastest that can be used.
        on_compile: called if something has to be compiled first, which takes a while.
        processes: how many processes share the processors of this machine.

    Raises:
        ArgumentError: if the kind knows no such engine, or it cannot be used here.
    """
    if not isinstance(engine, str):
        raise ArgumentError.at("engine", "not a name", "auto, for one", repr(engine))
    if isinstance(flow, Completed):
        inner = solved_with(
            flow.inner, engine, on_compile=on_compile, processes=processes
        )
        return _around(flow, inner)
    kind = kind_of(flow.kind)
    if kind.solved_with is not None:
        return kind.solved_with(
            flow, engine, on_compile=on_compile, processes=processes
        )
    if engine != "auto":
        raise ArgumentError.at(
            "engine", f"a flow of kind {kind.name} has none", "auto", engine
        )
    return flow
