r"""This file is the conditional flow: densities of latents, and draws with theirs.

With S the normalisation (`normalisation.py`, z -> r) and T the solve from base to
latents (`solve.py`, e -> r) the flow is z = S^-1(T(e; x); x) with e standard normal,

    log q(z, y | x) = log N(T^-1(S(z, y))) + log|det dT^-1| + log|det dS|,

y being the nuisance columns. T and S are block triangular in sampling order, so the sum
splits into one conditional log density per node,

    log q(z, y | x) = sum_i log q(z_i, y_i | ancestors of i in the inverse, x).

All latents are in free coordinates, that is on the real line. Densities are in nats.

The base of a set A of nodes that holds their ancestors depends on z_A, y_A alone. With
e_A from there and the rest of e fresh, T draws the remaining latents from
q(z_R, y_R | z_A, y_A, x), whose log density is the sum of their nodes' terms.
"""

import copy
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

from ..flow.normalised_flow import ResidualFlow
from ..flow.protocol import Ends, FlowDraw, TwoWay
from ..flow.scaling import AffineMap
from ..flow.shapes import Base, Free, LogProbPerNode, Nuisance, Observed, Row
from ..flow.structure import Structure
from .counting import CountingEngine
from .engine import Engine, TorchEngine
from .solve import Solution
from .vector_field import FieldConfig, VectorField, evaluate_field

__all__ = ["ConditionalFlow"]


class ConditionalFlow(ResidualFlow):
    """q(latents, nuisances | observed) in free coordinates; see `flow.protocol.Flow`.

    Args:
        structure: blocks and edges.
        config: shape of the vector field.
        seed: of the initial weights.
    """

    kind = "cnf"
    config: FieldConfig

    def __init__(self, structure: Structure, config: FieldConfig, seed: int) -> None:
        super().__init__(structure, config)
        self.engine: Engine = TorchEngine(10)
        self._engines: Callable[[int], Engine] = TorchEngine
        generator = torch.Generator().manual_seed(seed)
        self.field = VectorField(structure, config, generator=generator)

    @property
    def is_exact(self) -> bool:
        """Whether densities are free of noise."""
        return self.engine.is_exact

    def solved_by(self, engine: Engine) -> Self:
        """A view of the flow, of the same parameters, that an engine solves."""
        view = copy.copy(self)
        view.engine = engine
        return view

    def with_engines(self, engines: Callable[[int], Engine]) -> Self:
        """A view whose `in_steps` takes an engine that is made of a number of steps."""
        view = copy.copy(self)
        view._engines = engines
        return view

    def in_steps(self, num_steps: int) -> Self:
        """A view of the flow, of the same parameters, solved in so many steps."""
        return self.solved_by(self._engines(num_steps))

    def finer(self, factor: int) -> Self:
        """A view of the flow, of the same parameters, solved in more steps."""
        return self.solved_by(self.engine.with_steps(factor))

    def counted(self) -> tuple[Self, CountingEngine]:
        """A view of the flow, of the same parameters, and what its solves took."""
        field = self.field
        weights = sum(packing.size for packing in field.packings)
        counts = CountingEngine(self.engine, weights + field.observed_packing.size)
        return self.solved_by(counts), counts

    def log_prob_per_node(
        self, free: Free, nuisances: Nuisance, observed: Observed
    ) -> LogProbPerNode:
        """Conditional log densities, one per node in sampling order, in nats."""
        base, log_det = self.latent_to_base(free, nuisances, observed)
        return self.base_log_prob(base) + log_det

    def from_base(self, base: Base, observed: Observed) -> FlowDraw:
        """Where base points go, with the log density there; carries gradients."""
        free, nuisances, log_det = self.base_to_latent(base, observed)
        return FlowDraw(free, nuisances, self.base_log_prob(base) - log_det)

    def two_way(
        self, free: Free, nuisances: Nuisance, observed: Observed, base: Base
    ) -> TwoWay:
        """Densities of given latents, and draws from base points, in one solve."""
        state = self._join(free, nuisances)
        solution, affine = self._solve_both(state, observed, base)
        end, log_det = solution.state, solution.log_det
        log_prob = self.base_log_prob(end[0]) + log_det[0] + affine.log_det
        drawn = self.base_log_prob(base) - log_det[1] + affine.log_det
        latents, nuisances = self.columns.split(affine.from_residual(end[1]))
        return TwoWay(log_prob.sum(-1), FlowDraw(latents, nuisances, drawn))

    def ends(
        self, free: Free, nuisances: Nuisance, observed: Observed, base: Base
    ) -> Ends:
        """Where `two_way` carries latents and base points, without densities."""
        state = self._join(free, nuisances)
        solution, affine = self._solve_both(state, observed, base, with_log_det=False)
        end = solution.state
        return Ends(end[0], *self.columns.split(affine.from_residual(end[1])))

    def _solve_both(
        self,
        state: Tensor,
        observed: Tensor,
        base: Tensor,
        *,
        with_log_det: bool = True,
    ) -> tuple[Solution, AffineMap]:
        """One solve from states to the base, and from base points to states."""
        given, affine = self._affine(observed)
        start = torch.stack([affine.to_residual(state), base])
        sign = start.new_tensor([-1.0, 1.0])
        both = given.expand(2, *given.shape)
        solution = self.engine.solve(
            self.field, start, both, sign, with_log_det=with_log_det
        )
        return solution, affine

    def latent_to_base(
        self, free: Free, nuisances: Nuisance, observed: Observed
    ) -> tuple[Base, LogProbPerNode]:
        """Base points with log|det d base / d latents| per node."""
        given, affine = self._affine(observed)
        start = affine.to_residual(self._join(free, nuisances))
        base, log_det = self.residual_to_base(start, given)
        return base, log_det + affine.log_det

    def base_to_latent(
        self, base: Base, observed: Observed
    ) -> tuple[Free, Nuisance, LogProbPerNode]:
        """Latents, nuisances and log|det d latents / d base| per node."""
        given, affine = self._affine(observed)
        moved, log_det = self.base_to_residual(base, given)
        free, nuisances = self.columns.split(affine.from_residual(moved))
        return free, nuisances, log_det - affine.log_det

    def residual_to_base(
        self, residual: Base, given: Observed
    ) -> tuple[Base, LogProbPerNode]:
        """Base points of residual coordinates, with log|det| per node."""
        return self._solve_one(residual, given, -1.0)

    def base_to_residual(
        self, base: Base, given: Observed
    ) -> tuple[Base, LogProbPerNode]:
        """Residual coordinates of base points, with log|det| per node."""
        return self._solve_one(base, given, 1.0)

    def _solve_one(
        self, start: Tensor, given: Tensor, way: float
    ) -> tuple[Tensor, Tensor]:
        """Ends of a solve in one direction, with log|det| per node."""
        sign = start.new_tensor([way])
        solution = self.engine.solve(self.field, start[None], given[None], sign)
        return solution.state[0], solution.log_det[0]

    def matching_terms(
        self, free: Free, nuisances: Nuisance, observed: Observed, base: Base, time: Row
    ) -> Row:
        """Terms of the conditional flow-matching loss, a warm start for the KL.

        With r the residual coordinates of a joint draw and e its base point, the
        straight path (1 - t) e + t r has velocity r - e, which the field regresses on.
        The minimiser carries the base to the posterior, up to what node i cannot see of
        other nodes.

        References:
            Lipman, Chen, Ben-Hamu, Nickel, Le, "Flow Matching for Generative Modeling",
            ICLR 2023.
        """
        with torch.no_grad():
            end = self.to_residual(free, nuisances, observed)
            where = torch.lerp(base, end, time[:, None])
        velocity = self.velocity(where, time, observed)
        return (velocity - (end - base)).square().sum(-1)

    def velocity(self, residual: Base, time: Row, observed: Observed) -> Base:
        """The vector field at residual coordinates, each row at its own time."""
        dense = self.field.dense()
        term = dense.observed_term(self.normalisation.normalise_observed(observed))
        gates = dense.gates(time, torch.ones_like(time))
        return evaluate_field(dense, residual, term, gates)[0]

    def to_residual(self, free: Free, nuisances: Nuisance, observed: Observed) -> Base:
        """Residual coordinates, the end at t = 1 of the solve."""
        given = self.normalisation.normalise_observed(observed)
        return self.normalisation.affine(given).to_residual(self._join(free, nuisances))

    def base_log_prob(self, base: Tensor) -> Tensor:
        """Standard normal log densities per node."""
        return self.columns.base_log_prob(base)
