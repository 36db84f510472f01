r"""This file measures a flow: certified J, solver bias, effective sample size.

J is certified by fresh joint draws and a float64 flow that is as exact as its kind can
be (`flow.kinds.certified`); the training solver's own loss is never quoted, as training
can exploit a coarse solver. The bias of a fixed-step solver is seen by doubling its
steps on the same rows. The effective sample size is (sum w)^2 / sum w^2 over draws for
one data set, w = p(z, x) N(y; 0, I) / q(z, y | x).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..flow.kinds import certified, finer, in_steps, is_solved
from ..flow.protocol import Flow
from ..inference.weights import ess
from .batches import Batch, TargetModel, draw_batch
from .config import TrainingConfig
from .estimates import Estimate, SymmetricEstimate, estimate, estimate_symmetric
from .losses import forward_kl, reverse_kl, symmetric, symmetric_parts

__all__ = [
    "Measured",
    "SolverBias",
    "certify",
    "certify_forward",
    "certify_free_energy",
    "ess_fractions",
    "measured",
    "solver_bias",
]

_ESS_DATA_SETS = 24
_ESS_PARTICLES = 200
_FEWEST_DATA_SETS = 6
_FEWEST_PARTICLES = 50


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


@dataclass(frozen=True, slots=True)
class Measured:
    """What a certification found.

    Args:
        value: certified J; forward KL of a model without density, free energy of one
            data set.
        certified: J with its two directions, if it is that.
        ess: median ESS / N, if densities are exact.
        bias: of the training solver, if there is one.
        is_of_one_data_set: whether the value is the free energy of one data set.
    """

    value: Estimate
    certified: SymmetricEstimate | None
    ess: float | None
    bias: SolverBias | None
    is_of_one_data_set: bool = False

    def score(self, objective: str) -> float:
        """What the best weights have least of: a held mean of the objective's terms."""
        if self.certified is None:
            return self.value.held_mean
        directions = {
            "forward": self.certified.forward,
            "reverse": self.certified.reverse,
        }
        return directions.get(objective, self.value).held_mean

    @property
    def share_far_out(self) -> float:
        """Share of the flow's draws, over all data, where the model hardly is."""
        if self.certified is None:
            return 0.0
        return self.certified.reverse.num_held / self.certified.reverse.num_terms


def measured(
    model: TargetModel,
    flow: Flow,
    config: TrainingConfig,
    *,
    held_out: TargetModel,
    num_steps: int,
    num_draws: int,
    generator: torch.Generator,
) -> Measured:
    """A certified estimate, with the effective sample size and the solver's bias.

    Args:
        model: the target.
        flow: it is copied, not changed.
        config: how exactly to solve.
        held_out: draws that certify.
        num_steps: solver steps of training.
        num_draws: joint draws; of the others as large a share of what is usual.
        generator: source of the draws.
    """
    certifying: Callable[..., SymmetricEstimate | Estimate] = (
        certify_free_energy
        if not config.amortised
        else certify
        if model.has_density
        else certify_forward
    )
    found = certifying(
        held_out,
        flow,
        num_draws,
        generator=generator,
        tolerance=config.tolerance,
    )
    coarse, fine = in_steps(flow, num_steps), in_steps(flow, 2 * num_steps)
    fraction = bias = None
    if model.has_density and fine.is_exact:
        share = min(1.0, num_draws / config.certify_draws)
        fewest = min(_FEWEST_DATA_SETS, 1 + num_draws // 10)
        fractions = ess_fractions(
            model,
            fine,
            max(fewest, round(_ESS_DATA_SETS * share)),
            max(_FEWEST_PARTICLES, round(_ESS_PARTICLES * share)),
            generator=generator,
        )
        fraction = float(fractions.median())
    if is_solved(flow):
        sample = draw_batch(model, flow, num_draws // 2, generator=generator)
        bias = solver_bias(model, coarse, finer(coarse, 2), sample)
    if isinstance(found, SymmetricEstimate):
        return Measured(found.symmetric, found, fraction, bias)
    return Measured(
        found, None, fraction, bias, is_of_one_data_set=not config.amortised
    )


def certify(
    model: TargetModel,
    flow: Flow,
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
    precise = certified(flow, tolerance)
    with torch.no_grad():
        batch = draw_batch(model, precise, num_draws, generator=generator)
        forward, reverse = symmetric_parts(model, precise, batch)
    return estimate_symmetric(forward, reverse)


def certify_mean(
    loss: Callable[[TargetModel, Flow, Batch], Tensor],
    model: TargetModel,
    flow: Flow,
    num_draws: int,
    *,
    generator: torch.Generator,
    tolerance: float = 1e-6,
) -> Estimate:
    """The mean of a loss's terms, measured as in `certify`."""
    precise = certified(flow, tolerance)
    with torch.no_grad():
        batch = draw_batch(model, precise, num_draws, generator=generator)
        terms = loss(model, precise, batch)
    return estimate(terms)


certify_forward = partial(certify_mean, forward_kl)
"""F; of a model without density, F without the entropy of its draws."""
certify_free_energy = partial(certify_mean, reverse_kl)
"""R of one data set, that is KL(q, p) less its log evidence."""


def solver_bias(
    model: TargetModel, coarse: Flow, fine: Flow, batch: Batch
) -> SolverBias:
    """J of a batch, or F without a density, with some steps and with twice as many.

    A row that only one of them finishes differs by infinitely much; one without a
    density tells nothing, and the bulk is nan where no row tells.
    """
    rows: list[Tensor] = []
    objective = symmetric if model.has_density else forward_kl
    with torch.no_grad():
        for chosen in (coarse, fine):
            rows.append(objective(model, chosen, batch).double())
    told = rows[0].isfinite() | rows[1].isfinite()
    gaps = (rows[0] - rows[1])[told].nan_to_num(math.inf, math.inf, math.inf)
    order = gaps.abs().argsort()
    kept = gaps[order[: max(1, gaps.numel() - math.ceil(gaps.numel() / 200))]]
    return SolverBias(
        coarse=estimate(rows[0]).mean,
        fine=estimate(rows[1]).mean,
        bulk=float(kept.mean().abs()),
    )


def ess_fractions(
    model: TargetModel,
    flow: Flow,
    num_data_sets: int,
    num_particles: int,
    *,
    generator: torch.Generator,
) -> Tensor:
    """ESS / N for prior-predictive data sets, one number each.

    Args:
        model: the target.
        flow: the proposal.
        num_data_sets: data sets drawn from the model.
        num_particles: draws per data set.
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
        log_weights = -reverse_kl(model, flow, many).double()
    log_weights = log_weights.reshape(num_data_sets, num_particles)
    return ess(log_weights) / num_particles
