r"""This file measures a flow: certified J, solver bias, effective sample size.

J is certified by fresh joint draws, the exact divergence, and an adaptive solve in
float64 (`AdaptiveEngine`); the training solver's own loss is never quoted, as training
can exploit a coarse solver. The bias of a fixed-step solver is seen by doubling its
steps on the same rows. The effective sample size is (sum w)^2 / sum w^2 over draws for
one data set, w = p(z, x) N(y; 0, I) / q(z, y | x).
"""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..cnf.engine import AdaptiveEngine, Engine
from ..cnf.flow import ConditionalFlow
from ..inference.weights import ess
from .losses import (
    Batch,
    Estimate,
    SymmetricEstimate,
    TargetModel,
    draw_batch,
    estimate,
    estimate_symmetric,
    forward_kl,
    reverse_kl,
    symmetric,
    symmetric_parts,
)

__all__ = ["SolverBias", "certify", "certify_forward", "ess_fractions", "solver_bias"]


@dataclass(frozen=True, slots=True)
class SolverBias:
    """What doubling the steps changes.

    Args:
        coarse: the objective with the engine's own steps, in nats.
        fine: with twice as many, on the same rows.
        bulk: absolute mean difference without the 0.5 % of rows that differ most.
    """

    coarse: float
    fine: float
    bulk: float

    @property
    def difference(self) -> float:
        """Absolute difference in nats."""
        return abs(self.coarse - self.fine)


def certify(
    model: TargetModel,
    flow: ConditionalFlow,
    num_draws: int,
    *,
    generator: torch.Generator,
    tolerance: float = 1e-6,
) -> SymmetricEstimate:
    """J over fresh joint draws, by an adaptive float64 solve.

    Args:
        model: the target.
        flow: the flow; it is copied, not changed.
        num_draws: joint draws, used in both directions.
        generator: source of the draws.
        tolerance: of the solver.
    """
    precise = copy.deepcopy(flow).double()
    engine = AdaptiveEngine(tolerance)
    with torch.no_grad():
        batch = draw_batch(model, precise, num_draws, generator=generator)
        forward, reverse = symmetric_parts(model, precise, batch, engine=engine)
    return estimate_symmetric(forward, reverse)


def certify_forward(
    model: TargetModel,
    flow: ConditionalFlow,
    num_draws: int,
    *,
    generator: torch.Generator,
    tolerance: float = 1e-6,
) -> Estimate:
    """F over fresh joint draws, by an adaptive float64 solve; see `certify`.

    Of a model without density, F without the entropy of its draws.
    """
    precise = copy.deepcopy(flow).double()
    with torch.no_grad():
        batch = draw_batch(model, precise, num_draws, generator=generator)
        terms = forward_kl(model, precise, batch, engine=AdaptiveEngine(tolerance))
    return estimate(terms)


def solver_bias(
    model: TargetModel, flow: ConditionalFlow, batch: Batch, engine: Engine
) -> SolverBias:
    """J of a batch, or F without a density, with N steps and with twice as many."""
    rows: list[Tensor] = []
    objective = symmetric if model.has_density else forward_kl
    with torch.no_grad():
        for chosen in (engine, engine.with_steps(2)):
            rows.append(objective(model, flow, batch, engine=chosen).double())
    gaps = rows[0] - rows[1]
    order = gaps.abs().argsort()
    kept = gaps[order[: max(1, gaps.numel() - math.ceil(gaps.numel() / 200))]]
    return SolverBias(
        coarse=estimate(rows[0]).mean,
        fine=estimate(rows[1]).mean,
        bulk=float(kept.mean().abs()),
    )


def ess_fractions(
    model: TargetModel,
    flow: ConditionalFlow,
    num_data_sets: int,
    num_particles: int,
    *,
    engine: Engine,
    generator: torch.Generator,
) -> Tensor:
    """ESS / N for prior-predictive data sets, one number each.

    Args:
        model: the target.
        flow: the proposal.
        num_data_sets: data sets drawn from the model.
        num_particles: draws per data set.
        engine: how the flow is solved.
        generator: source of the draws.
    """
    with torch.no_grad():
        batch = draw_batch(model, flow, num_data_sets, generator=generator)
        rows = num_data_sets * num_particles
        many = Batch(
            free=batch.free,
            nuisances=batch.nuisances,
            observed=batch.observed.repeat_interleave(num_particles, 0),
            log_joint=batch.log_joint,
            base=flow.sample_base(rows, generator=generator),
        )
        log_weights = -reverse_kl(model, flow, many, engine=engine).double()
    log_weights = log_weights.reshape(num_data_sets, num_particles)
    return ess(log_weights) / num_particles
