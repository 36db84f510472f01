r"""This file says what a conditional flow is, whatever its kind.

A flow carries base points e ~ N(0, I) to latents z, in free coordinates, and nuisances
y, given observed values x. It states the density of where they end,

    log q(z, y | x) = sum_i log q(z_i, y_i | ancestors of i in the inverse, x),

one term per node in sampling order, in nats. Laws, held by tests for every kind:
`log_prob_per_node` at a draw is what came with the draw, densities integrate to one, a
node's term depends on the node's reach alone, and a row on no other row.

What only some kinds can do stands in the small protocols at the end; training asks once
for each and does without those that a flow lacks.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Generator, nn

from .shapes import Base, Free, LogProb, LogProbPerNode, Nuisance, Observed, Row
from .structure import Structure

__all__ = [
    "Counted",
    "Drawn",
    "Ends",
    "Evaluations",
    "Flow",
    "FlowDraw",
    "Known",
    "Matched",
    "PathEnds",
    "Stepped",
    "TwoDirections",
    "TwoWay",
]


@dataclass(frozen=True, slots=True)
class FlowDraw:
    """Latents and nuisances with their log densities.

    Args:
        free: latents in free coordinates.
        nuisances: nuisance columns, block by block in sampling order.
        log_prob_per_node: conditional log densities given the ancestors of each node,
            in sampling order, in nats; of given nodes too where some were given.
    """

    free: Free
    nuisances: Nuisance
    log_prob_per_node: LogProbPerNode

    @property
    def log_prob(self) -> LogProb:
        """Log q(free, nuisances | observed) in nats."""
        return self.log_prob_per_node.sum(-1)


@dataclass(frozen=True, slots=True)
class Known:
    """Values of some latents.

    Args:
        free: their values; other columns are not looked at.
        nuisances: their nuisance columns; other columns are not looked at.
        nodes: their names; with each its ancestors in the inverse.
    """

    free: Free
    nuisances: Nuisance
    nodes: Collection[str]


class Flow(Protocol):
    """q(latents, nuisances | observed), a module of torch with parameters."""

    @property
    def kind(self) -> str:
        """Name of its kind in `kinds.py`."""

    @property
    def structure(self) -> Structure:
        """Blocks and edges."""

    @property
    def config(self) -> Any:
        """What it was built with, a value of the kind's type."""

    @property
    def dtype(self) -> torch.dtype:
        """Precision of its densities."""

    @property
    def device(self) -> torch.device:
        """Where it lives."""

    @property
    def is_exact(self) -> bool:
        """Whether densities are free of noise."""

    def log_prob_per_node(
        self, free: Free, nuisances: Nuisance, observed: Observed
    ) -> LogProbPerNode:
        """Conditional log densities, one per node in sampling order, in nats."""

    def log_prob(self, free: Free, nuisances: Nuisance, observed: Observed) -> LogProb:
        """Log densities log q(free, nuisances | observed), in nats."""

    def sample_base(self, num: int, *, generator: Generator | None = None) -> Base:
        """Standard normal base points, in the flow's precision and on its device."""

    def from_base(self, base: Base, observed: Observed) -> FlowDraw:
        """Where base points go, with the density there; carries gradients."""

    def rsample_and_log_prob(
        self, observed: Observed, *, generator: Generator | None = None
    ) -> FlowDraw:
        """One draw per row with its density; carries gradients."""

    def rsample_remaining(
        self, known: Known, observed: Observed, *, generator: Generator | None = None
    ) -> FlowDraw:
        """Draws of all other latents given some, with per-node log densities.

        Args:
            known: the given latents.
            observed: observed values.
            generator: source of the draws.

        Raises:
            ArgumentError: if the given latents lack an ancestor.
        """

    def fit_normalisation(self, free: Free, observed: Observed) -> None:
        """Fits what is fixed before training to joint draws.

        Raises:
            ArgumentError: if a draw is not finite.
        """

    def parameters(self) -> Iterator[nn.Parameter]:
        """What training changes."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters by their names in the state."""

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """What holds them, by the names before theirs."""

    def state_dict(self) -> dict[str, Any]:
        """All tensors by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Takes tensors over from `state_dict`."""

    def to(self, place: Any) -> Self:
        """The flow itself, moved to a device or into a precision."""


@dataclass(frozen=True, slots=True)
class TwoWay:
    """Both directions from one solve.

    Args:
        log_prob: log q of the given latents, in nats.
        draw: new draws for the given observed values.
    """

    log_prob: LogProb
    draw: FlowDraw


@dataclass(frozen=True, slots=True)
class Ends:
    """Where rows of both directions end.

    Args:
        base: base points of given latents.
        free: latents of given base points, in free coordinates.
        nuisances: their nuisance columns.
    """

    base: Base
    free: Free
    nuisances: Nuisance


@runtime_checkable
class TwoDirections(Protocol):
    """A flow that scores and draws in one go."""

    def two_way(
        self, free: Free, nuisances: Nuisance, observed: Observed, base: Base
    ) -> TwoWay:
        """Densities of given latents, and draws from base points."""


@runtime_checkable
class PathEnds(TwoDirections, Protocol):
    """A flow whose ends carry gradients without densities: the path gradient's need."""

    def ends(
        self, free: Free, nuisances: Nuisance, observed: Observed, base: Base
    ) -> Ends:
        """Where `two_way` carries latents and base points."""


@runtime_checkable
class Matched(Protocol):
    """A flow that a regression starts warm, without a solve."""

    def matching_terms(
        self, free: Free, nuisances: Nuisance, observed: Observed, base: Base, time: Row
    ) -> Row:
        """Terms of the loss of the warm start; ``time`` is uniform on [0, 1]."""


@runtime_checkable
class Drawn(Protocol):
    """A flow that is drawn from faster than it carries base points."""

    def drawn(self, base: Base, observed: Observed) -> tuple[Free, Nuisance]:
        """Draws from base points, without gradients; another map than `from_base`."""


@runtime_checkable
class Stepped(Protocol):
    """A flow whose solver has a number of steps, which training may raise."""

    def in_steps(self, num_steps: int) -> Self:
        """A view of the flow, of the same parameters, solved in so many steps."""

    def finer(self, factor: int) -> Self:
        """A view of the flow, of the same parameters, solved in more steps."""


class Evaluations(Protocol):
    """How often a solve looked at the flow's network, at most.

    Each look takes `multiply_adds` for a row, of entries that exist only.
    """

    @property
    def multiply_adds(self) -> int:
        """Of one evaluation for one row."""

    @property
    def to_latent(self) -> int:
        """From base to latents."""

    @property
    def to_base(self) -> int:
        """From latents to the base."""


@runtime_checkable
class Counted(Protocol):
    """A flow whose solver can say what it did."""

    def counted(self) -> tuple[Self, Evaluations]:
        """A view of the flow, of the same parameters, and what its solves took."""
