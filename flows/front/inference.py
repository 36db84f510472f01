"""This file infers: from a model and one data set to an answer that says its worth.

The method is chosen with evidence:

- only discrete latents: exact, by elimination;
- nothing observed: draws of the prior;
- draws of the prior that carry enough weight: importance sampling from the prior;
- draws of latents that are Gaussian but for what they say, around their modes given the
  others, that carry enough;
- draws around the modes that carry enough: importance sampling from a mixture of
  Student's t fitted there, the prior mixed in; or from many that cover a posterior of
  few latents;
- otherwise sequential Monte Carlo from there to the posterior, in independent islands
  whose disagreement is looked at; from the prior where what lies around the modes has
  another shape than the posterior, or these do not come to trust it.

Discrete latents beside continuous ones are summed out, and drawn at the end given the
rest; those that are too wide for that are sampled like continuous ones, or drawn by
the heads of a trained flow. Continuous latents that are linear and Gaussian given the
others are integrated out and drawn likewise (`targets.py`). Rows without meaning (a
negative scale) weigh 0 and are counted.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..errors import ArgumentError
from ..inference.proposal import DefensiveMixture, Proposal
from ..linear_gaussian.target import GaussianMarginal
from ..marginal.collapsed import CollapsedModel
from ..marginal.target import target_of
from ..model.capabilities import listed
from ..model.model import Model
from ..proposals.flow import FlowProposal
from .answer import Inference
from .arguments import seed_of
from .clock import Clock
from .doubts import without_density, without_value
from .exact import exact
from .lost_digits import NO_POSTERIOR
from .nested import nested
from .question import Question
from .settings import check_model, seconds_of
from .source import Source
from .start import start
from .targets import Target, reduced
from .tempered import tempered
from .treatment import Treatment
from .weighed import around_modes, is_as_good, pilot, prior, with_flow

__all__ = ["METHODS", "infer"]

METHODS = ("auto", "exact", "flow", "prior", "laplace", "smc")

_MOST_WIDE = 64
_NEAR_CUT = 0.1
_LEAST_NEAR = 1e-6


def infer(
    model: Model,
    observed: Mapping[str, Any] | Float[Tensor, " observed"] | None = None,
    *,
    method: str = "auto",
    flow: Source | Proposal | None = None,
    budget: str | float | None = None,
    num_particles: int = 10_000,
    target_ess: float = 1_000.0,
    seed: int = 0,
    on_progress: Callable[[float, str], None] | None = None,
) -> Inference:
    """Return the posterior of a model given one data set.

    Args:
        model: Any model: discrete latents are summed out.
        observed: Data by name instead of the program's; or a row of them.
        method: One of `METHODS`.
        flow: A trained flow, which `auto` uses if it is good.
        budget: Most time by the wall clock, in seconds or as `10m`; what is not done
            by then is said.
        num_particles: Draws of importance sampling, and of an exact answer; a tenth of
            them are the lines of each island of tempering.
        target_ess: Effective sample size of the slowest latent that is enough: so far
            draws are added, and tempered particles moved on at the end.
        seed: Decides every draw.
        on_progress: Called with the share that is done, and a note.

    Raises:
        ArgumentError: If there is no such method, or it cannot answer this model.
        ModelError: If the model or the data do not fit.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from flows import Model, infer
        >>> text = "(let [k (sample (poisson 3))] (observe (normal k 1) 5) k)"
        >>> with TemporaryDirectory() as folder:
        ...     place = Path(folder) / "count.daphne"
        ...     _ = place.write_text(text)
        ...     answer = infer(Model.compile(place))
        >>> answer.method, round(answer.log_evidence, 4), round(answer.returned.mean, 3)
        ('exact', -2.2313, 4.504)
    """
    clock = Clock(math.inf if budget is None else seconds_of(budget), on_progress)
    if method not in METHODS:
        raise ArgumentError.at(
            "method", "not known", f"one of {', '.join(METHODS)}", method
        )
    if not target_ess > 0.0:
        raise ArgumentError.at(
            "target_ess", "out of range", "above 0", f"{target_ess:g}"
        )
    check_model(model)
    seed = seed_of(seed)
    proposal = flow.proposal() if isinstance(flow, Source) else flow
    data = observed
    if not isinstance(data, Tensor):
        data = model.observation(data)
    widen = 1
    while True:
        target = reduced(model, widen=widen)
        question = Question(
            model,
            target.forgiving(),
            data,
            num_particles,
            seed,
            clock,
            target_ess,
        )
        _check_method(question, method, proposal)
        of_flow = _of_flow(question, proposal, widen)
        found = _answered(question, method, proposal, of_flow)
        is_drawn = found.method == "flow"
        if is_drawn:
            target = of_flow.target
        is_last = widen >= _MOST_WIDE or clock.is_over()
        if is_last or not _is_cut_short(found, target):
            why = found.why
            if model.layout.observed:
                why += Treatment.of(target).clause(has_heads=is_drawn)
            notes = list(without_value(model))
            if not found.log_evidence > -math.inf:
                notes = [*without_density(model, data, seed), *notes]
            return replace(found, why=why, cautions=(*found.cautions, *notes))
        widen *= 4


def _of_flow(question: Question, flow: Proposal | None, widen: int) -> Question:
    """Return the question of what a trained flow is of, whose heads may be others."""
    usual = flow.proposal if isinstance(flow, DefensiveMixture) else flow
    own = usual.model if isinstance(usual, FlowProposal) else None
    target = question.target
    if isinstance(target, GaussianMarginal):
        return replace(question, target=question.model.forgiving())
    if not isinstance(own, CollapsedModel) or not isinstance(target, CollapsedModel):
        return question
    if own.sampled == target.sampled:
        return question
    found = target_of(question.model, widen=widen, sampled=own.sampled)
    return replace(question, target=found.forgiving())


def _check_method(question: Question, method: str, flow: Proposal | None) -> None:
    """Raise unless a method can answer a question."""
    latents = question.target.layout.latents
    discrete = [variable.label for variable in latents if variable.is_discrete]
    if method == "exact" and latents:
        continuous = [v.label for v in latents if not v.is_discrete]
        left = (
            ("continuous latents", continuous),
            ("discrete latents that cannot be summed out", discrete),
        )
        said = " and ".join(
            f"{what} ({listed(names)})" for what, names in left if names
        )
        raise ArgumentError.at(
            "method exact", f"the model has {said}", "another method"
        )
    if method in ("laplace", "smc") and not latents:
        raise ArgumentError.at(
            f"method {method}",
            "the model has no continuous latents to move",
            "auto or exact",
        )
    if method == "laplace" and discrete:
        raise ArgumentError.at(
            "method laplace",
            f"discrete latents that cannot be summed out ({listed(discrete)}) have "
            "no modes",
            "auto, smc or prior",
        )
    if method == "flow" and flow is None:
        raise ArgumentError.at("method flow", "no trained flow is given", "an artifact")


def _answered(
    question: Question, method: str, flow: Proposal | None, of_flow: Question
) -> Inference:
    """Return the answer by a method, chosen if it is auto."""
    latents = question.target.layout.latents
    is_continuous = not any(variable.is_discrete for variable in latents)
    if not latents and method in ("auto", "exact"):
        return exact(question)
    if not question.model.layout.observed:
        return prior(question, "nothing is observed: draws of the prior")
    if method == "prior":
        return prior(question, "as asked: importance sampling from the prior")
    if flow is not None and method in ("auto", "flow"):
        found = with_flow(of_flow, flow, must=method == "flow")
        if isinstance(found, Inference):
            return found
        other = _answered(question, method, None, of_flow)
        other = replace(other, why=f"{found.why}; {other.why}")
        return found.in_hand(of_flow, other)
    if method == "auto":
        answer = pilot(question)
        if answer is not None:
            return answer
    if method == "smc":
        return tempered(question, None, "as asked: tempered from the prior")
    if not is_continuous:
        return tempered(question, None, "tempered from the prior")
    if method == "laplace":
        return around_modes(question, start(question), "as asked")
    answer = nested(question)
    if answer is not None:
        return answer
    begun = None if question.clock.is_over() else start(question)
    if begun is not None and begun.is_good:
        why = "draws around the modes carry enough weight: importance sampling"
        answer = around_modes(question, begun, why)
        is_confirmed = is_as_good(begun, answer)
        has_none = any(each.meaning == NO_POSTERIOR for each in answer.cautions)
        if has_none or (answer.is_trusted and is_confirmed):
            return answer
        weak = "fresh draws around the modes found a tail that the first ones missed"
        if not is_confirmed:
            return tempered(question, None, f"{weak}: tempered from the prior")
        meaning = answer.cautions[0].meaning
        weak = f"draws around the modes cannot be trusted ({meaning})"
    else:
        weak = "no proposal carries enough weight"
    if begun is None or not begun.has_shape:
        return tempered(question, None, f"{weak}: tempered from the prior")
    why = f"{weak}: tempered from what lies around the modes"
    answer = tempered(question, begun, why)
    if answer.is_trusted or question.clock.is_over():
        return answer
    why = f"{weak}, and from around the modes it is not sure: tempered from the prior"
    again = tempered(question, None, why)
    # Who has missed a part of the posterior has less evidence.
    return max(again, answer, key=lambda each: (each.is_trusted, each.log_evidence))


def _is_cut_short(found: Inference, target: Target) -> bool:
    """Whether the posterior of a latent with infinitely many values nears its cut."""
    if not isinstance(target, CollapsedModel) or not target.tables.truncated:
        return False
    if found.particles.totals.log_sum == -math.inf:
        return False
    weights = found.particles.normalized_weights
    for name in target.tables.truncated:
        kept = target.tables.values[name]
        first, last = kept[0], kept[-1]
        margin = _NEAR_CUT * (last - first)
        values = found.particles.latents[:, found.model.layout.variable(name).start]
        is_near = values >= last - margin
        if first > 0:
            is_near |= values <= first + margin
        if float(weights[is_near].sum()) > _LEAST_NEAR:
            return True
    return False
