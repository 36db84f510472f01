"""This file says in words why an answer may be wrong, or what to know beside it."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..inference.cautions import (
    K_HAT_LIMIT,
    LOG_EVIDENCE_ERROR_LIMIT,
    Caution,
    prior_predictive_cautions,
)
from ..inference.pareto import pareto_k_hat
from ..inference.particles import Particles
from ..inference.weights import WeightTotals
from ..marginal.collapsed import CollapsedModel
from ..model.capabilities import listed
from ..model.lowered_graph import is_bounded
from ..model.model import Model
from ..model.returns import return_value
from .islands import Islands
from .question import Question
from .targets import Target

__all__ = [
    "apart",
    "cut",
    "data_cautions",
    "few",
    "left_out",
    "long_tails",
    "lost_on_the_way",
    "predictive_cautions",
    "unexplained",
    "unsure",
    "weak",
    "without_density",
    "without_mean",
    "without_meaning",
    "without_value",
]

_LEAST_ESS = 100.0
_LEAST_LEFT_OUT = 1e-8
_MOST_APART = 4.0
_MOST_APART_MEANS = 5.0
_MOST_DEVIATIONS = 0.25
_NO_MEAN = 0.8
"""A Pareto shape of 1 is estimated from 10,000 draws to some 0.1."""
_MUCH_OF_A_MEAN = 0.02
_PREDICTIVE_DRAWS = 1000


def weak(
    totals: WeightTotals, k_hat: float, *, is_tempered: bool = False
) -> list[Caution]:
    """Return why weights cannot be trusted.

    Args:
        totals: What they add up to.
        k_hat: Of their tail.
        is_tempered: Whether tempering was tried already.
    """
    found = []
    if totals.num_zero == totals.num_particles:
        found.append(
            Caution(
                f"none of {totals.num_particles} draws has a positive weight",
                "the estimated evidence is 0 and there is no posterior",
                "Check that the program can produce the data; if rarely, draw more of "
                "the prior by --method prior --num-particles",
            )
        )
    elif k_hat > K_HAT_LIMIT or totals.ess < min(
        _LEAST_ESS, 0.25 * totals.num_particles
    ):
        found.append(
            Caution(
                f"the effective sample size is {totals.ess:.3g} of "
                f"{totals.num_particles} and Pareto k-hat {k_hat:.2f}",
                "rare particles rule every average",
                "Allow more time by --budget, or draw more by --num-particles"
                if is_tempered
                else "Use --method smc",
            )
        )
    return found


def without_meaning(target: Target, num: int, of: int) -> list[Caution]:
    """Return a caution if draws of a target have no meaning.

    Args:
        target: The model that is drawn from.
        num: How many; of a collapsed one, those without it at some value of the
            discrete latents.
        of: Of how many.
    """
    if not num:
        return []
    what = f"{num} of {of} draws give a distribution a parameter without meaning"
    if isinstance(target, CollapsedModel):
        return [
            Caution(
                f"{what} at some value of the discrete latents",
                "these values weigh 0, as if the program excluded them",
                "Check that this is meant, an index outside a vector say",
            )
        ]
    return [
        Caution(
            what,
            "they weigh 0, as if the program excluded them",
            "Check that this is meant, a negative scale say",
        )
    ]


def lost_on_the_way(
    target: Target, observed: Float[Tensor, " observed"], seed: int
) -> list[Caution]:
    """Return a caution if draws of the prior have no meaning: none of them arrives.

    Args:
        target: A forgiving model, that particles are tempered in.
        observed: The data.
        seed: Decides the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = target.sample_latents(
        _PREDICTIVE_DRAWS, generator=generator, observed=observed
    )
    has_meaning = target.has_meaning(drawn, observed)
    return without_meaning(target, int((~has_meaning).sum()), _PREDICTIVE_DRAWS)


def without_mean(question: Question, particles: Particles) -> list[Caution]:
    """Return a caution if independent draws show a latent to have no mean.

    That is the tail of weight times distance from the middle of the particles: of
    Pareto shape 1 it has no mean, and what is printed for one depends on the seed.
    What lies between two numbers has one, however spread its draws.
    """
    names = long_tails(question, particles, _NO_MEAN, _MUCH_OF_A_MEAN)
    if not names:
        return []
    return [
        Caution(
            f"the posterior of {', '.join(names)} has so long a tail that its mean may "
            "not exist",
            "its mean and sd depend on the seed; its quantiles do not",
            "Read the quantiles, or give it a prior of shorter tails",
        )
    ]


def long_tails(
    question: Question, particles: Particles, shape: float, share: float
) -> list[str]:
    """Return the latents whose means are made out by few draws, far out.

    Args:
        question: What was asked.
        particles: Weighted, independent.
        shape: Pareto shape of weight times distance that is too large.
        share: Of a mean that the largest of these makes out at least.
    """
    alive = particles.log_weights > -math.inf
    if not bool(alive.any()):
        return []
    rows, log_weights = particles.latents[alive], particles.log_weights[alive]
    far = log_weights.unsqueeze(1) + (rows - rows.median(0).values).abs().log()
    # Cheap, and rules out most.
    largest = far.max(0).values - far.logsumexp(0)
    lowered = question.model.lowered
    bounded = {entry.node.name for entry in lowered.latents if is_bounded(entry)}
    return [
        label
        for variable in question.target.layout.latents
        if variable.name not in bounded
        for column, label in enumerate(variable.column_names, variable.start)
        if float(largest[column].exp()) > share and pareto_k_hat(far[:, column]) > shape
    ]


def unsure(error: float) -> Caution:
    """Return that the evidence is not known well enough."""
    known = f"{error:.2f} nats" if math.isfinite(error) else "not known"
    return Caution(
        f"the standard error of the log evidence is {known}",
        "few of the first particles have descendants",
        "Draw more by --num-particles",
    )


def apart(islands: Islands) -> list[Caution]:
    """Return cautions if islands disagree in their evidences or means."""
    gaps = []
    errors = [each.result.log_evidence_standard_error for each in islands.islands]
    known = [e for e in errors if math.isfinite(e)]
    error = math.sqrt(sum(e * e for e in known)) if known else LOG_EVIDENCE_ERROR_LIMIT
    gap = islands.evidence_gap
    in_errors, in_deviations = islands.mean_gap
    if not gap <= max(_MOST_APART * error, LOG_EVIDENCE_ERROR_LIMIT):
        gaps.append(f"{gap:.2f} nats in the log evidence")
    if in_errors > _MOST_APART_MEANS and in_deviations > _MOST_DEVIATIONS:
        gaps.append(
            f"{in_deviations:.2f} posterior standard deviations in a mean, "
            f"{in_errors:.0f} of its standard errors"
        )
    return [
        Caution(
            f"independent islands differ by {words}",
            "some of them have missed a part of the posterior",
            "Use --method auto if another was asked for, or draw more by "
            "--num-particles and compare other seeds",
        )
        for words in gaps
    ]


def few(ess: float, question: Question) -> list[Caution]:
    """Return a caution if the effective sample size that was asked for is not there."""
    if ess >= question.target_ess:
        return []
    return [
        Caution(
            f"the effective sample size of the slowest latent is {ess:.0f}, not "
            f"{question.target_ess:.0f}",
            "its mean is known less well, as its Monte Carlo error says",
            "Allow more time by --budget, or draw more by --num-particles",
        )
    ]


def left_out(question: Question, particles: Particles) -> list[Caution]:
    """Return a caution if a cut of an infinite support leaves mass out."""
    if not isinstance(question.target, CollapsedModel) or (
        not question.target.tables.truncated
    ):
        return []
    alive = particles.log_weights > -math.inf
    if not bool(alive.any()):
        return []
    out = question.target.left_out(particles.latents[alive], question.observed)
    mass = float(out @ particles.log_weights[alive].softmax(0))
    of = "the prior's mass on average over the posterior"
    return cut(question.target, mass, of=of, what="the evidence")


def cut(target: CollapsedModel, mass: float, *, of: str, what: str) -> list[Caution]:
    """Return a caution if the cuts of infinite supports leave mass out.

    Args:
        target: The model, with its cuts.
        mass: The share that they leave out.
        of: Of what.
        what: What is too small for it.
    """
    if mass < _LEAST_LEFT_OUT:
        return []
    layout, truncated = target.model.layout, target.tables.truncated
    names = ", ".join(layout.variable(name).label for name in truncated)
    return [
        Caution(
            f"the cut of {names} leaves out {mass:.1e} of {of}",
            f"{what} is too small by about that share",
            "A prior with a smaller rate, or a bound, avoids the cut",
        )
    ]


def without_value(model: Model) -> tuple[Caution, ...]:
    """Return a caution if parts of the return value of a program have no value."""
    returned = return_value(model.lowered)
    missing = {} if returned is None else returned.missing()
    if not missing:
        return ()
    return (
        Caution(
            f"no value for {listed(list(missing))}",
            next(iter(missing.values())),
            "Return what has a known structure: (reduce + (map (fn [x] (if (= x 0) 1 "
            "0)) xs)), say, is how many of xs are 0",
        ),
    )


def data_cautions(
    model: Model, observed: Float[Tensor, " observed"], totals: WeightTotals, seed: int
) -> tuple[Caution, ...]:
    """Return what to know of data beside particles.

    Args:
        model: The model.
        observed: The data.
        totals: What the weights add up to.
        seed: Decides the draws of the model that data are compared with.
    """
    far = predictive_cautions(model, observed, seed)
    if totals.log_sum > -math.inf:
        return far
    return (*far, *without_density(model, observed, seed))


def predictive_cautions(
    model: Model, observed: Float[Tensor, " observed"], seed: int
) -> tuple[Caution, ...]:
    """Return a caution per observed value far from what the model draws."""
    generator = torch.Generator().manual_seed(seed)
    draws = model.forgiving().sample(_PREDICTIVE_DRAWS, generator=generator).observed
    draws = draws[~torch.isnan(draws).any(1)]
    if not len(draws):
        return ()
    labels = [n for v in model.layout.observed for n in v.column_names]
    return prior_predictive_cautions(observed, draws, labels)


def unexplained(
    model: Model, observed: Float[Tensor, " observed"], seed: int
) -> list[str]:
    """Return the data to which no draw of the prior gives a density: `y = 1e+300`.

    Those are impossible, or so large that squares of them are no numbers. Of a vector
    the entry farthest from 0 is said.
    """
    model = model.forgiving()
    generator = torch.Generator().manual_seed(seed)
    drawn = model.sample_latents(
        _PREDICTIVE_DRAWS, generator=generator, observed=observed
    )
    terms = model.log_likelihood_terms(drawn, observed)
    is_explained = (terms > -math.inf).any(0).tolist()
    names = []
    for variable, is_fine in zip(model.layout.observed, is_explained, strict=True):
        if not is_fine:
            values = observed[variable.start : variable.stop]
            far = int(values.abs().argmax())
            names.append(f"{variable.column_names[far]} = {float(values[far]):g}")
    return names


def without_density(
    model: Model, observed: Float[Tensor, " observed"], seed: int
) -> list[Caution]:
    """Return a caution if there are data that no draw of the prior explains."""
    names = unexplained(model, observed, seed)
    if not names:
        return []
    return [
        Caution(
            f"no draw of the prior gives a density to {listed(names)}",
            "such data are impossible, or a number is too large to be computed with",
            "Check these values, their units, and the numbers beside them in the "
            "program",
        )
    ]
