r"""This file defines the training objectives as functions of (model, flow, batch).

With p(z, x) the model's joint density in free coordinates, y the nuisance columns with
target N(0, I), and p(z, y, x) = p(z, x) N(y; 0, I),

    forward_kl  F = E_p(z,y,x) [log p(z,y,x) - log q(z,y|x)],
    reverse_kl  R = E_p(x) q(z,y|x) [log q(z,y|x) - log p(z,y,x)],
    symmetric   J = (F + R) / 2,
    free_energy A = E_p(x) q(z,y|x) [log q(z,y|x) - b log p(z,y,x)],

where b rises to 1, where A is R: a target that is flat at first lets the flow find all
of its mass before it is held to it.

F and R are Kullback-Leibler divergences plus and minus the same constant, so it cancels
in J, which is the expected Jeffreys divergence: zero exactly when q is the posterior.
Both directions of a row share its observed values, so log p(x) cancels row by row and
the estimate of J has a far smaller variance than those of F and R.

The gradient of J has two unbiased estimators. `symmetric` is differentiated as it
stands: its gradient contains the scores of q, which are zero in the mean and noisy even
where q is exact, and also how the solver's error depends on the weights, which training
can exploit. `symmetric_path` leaves out both. With T the flow, e = T^-1(z) for z of p,
z' = T(e') for e' of N, and inside brackets the weights held fixed,

    dF/dw = E [d/de (log p(T(e)) + log|det dT| - log N(e))] de/dw,
    dR/dw = E [d/dz' (log q(z' | x) - log p(z', x))] dz'/dw,

so both brackets, and all noise, vanish where q is exact. It takes one solve to the ends
and one back, and no derivative of a log-determinant by the weights.

A flow that is drawn from quickly has another such gradient, by contrasts (`contrast`):
M draws z_1 ... z_M of q for the data of a joint draw, which is z_0. With the errors
f_m = log q(z_m | x) - log p(z_m, x), equal where q is exact, and weights w_m in
proportion to exp -f_m,

    dF/dw = E [- sum_m w_m dlog q(z_m)/dw],
    dR/dw = E [1/(M-1) sum_{m>0} (f_m - mean of f) dlog q(z_m)/dw];

the first holds as the joint draw is one of the exact posterior, so that picking one of
the M + 1 by its weight gives another; as the scores of q have mean zero, 1/(M+1) of
those of its draws is taken off. Derivatives of the model are not needed. In R, f is
held within `MOST_NATS` of the posterior's mean of it, so that a row far out, of which
there are some at first, does not lead alone.

Of a model that has draws but no density only F is left, without the constant entropy of
its draws: E_p [log N(y) - log q(z,y|x)].

F, R and J have the signature (model, flow, batch) -> terms, the others take more; each
returns one term per row, whose mean is the estimate (`estimates.py`), not clipped.

References:
    Weilbach et al., AISTATS 2020, section 3.4.
    Rezende, Mohamed, "Variational Inference with Normalizing Flows", ICML 2015,
    equation 20 (A).
    Roeder, Wu, Duvenaud, "Sticking the Landing", NeurIPS 2017 (R).
    Vaitl, Nicoli, Nakajima, Kessel, "Path-Gradient Estimators for Continuous
    Normalizing Flows", ICML 2022 (R and F).
    Bornschein and Bengio, "Reweighted Wake-Sleep", ICLR 2015 (contrasts, F).
    Richter, Boustati, Nüsken, Ruiz, Akyildiz, "VarGrad: A Low-Variance Gradient
    Estimator for Variational Inference", NeurIPS 2020 (contrasts, R).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from ..flow.protocol import Drawn, Flow, Matched, PathEnds, TwoDirections, TwoWay
from ..flow.shapes import Row
from ..model.standard_normal import standard_normal_log_prob
from .batches import Batch, TargetModel
from .estimates import MOST_NATS

__all__ = [
    "contrast",
    "flow_matching",
    "forward_kl",
    "free_energy",
    "reverse_kl",
    "symmetric",
    "symmetric_parts",
    "symmetric_path",
]

_FAR = 1e30


def forward_kl(
    model: TargetModel,  # noqa: ARG001 (the signature all losses share)
    flow: Flow,
    batch: Batch,
) -> Row:
    """Terms of F, in nats."""
    log_prob = flow.log_prob(batch.free, batch.nuisances, batch.observed)
    return batch.log_joint - log_prob


def reverse_kl(model: TargetModel, flow: Flow, batch: Batch) -> Row:
    """Terms of R, in nats."""
    return free_energy(model, flow, batch, 1.0)


def free_energy(model: TargetModel, flow: Flow, batch: Batch, share: float) -> Row:
    """Terms of A, in nats.

    Args:
        model: the target.
        flow: drawn from.
        batch: base points and observed values.
        share: b, of the log target.
    """
    draw = flow.from_base(batch.base, batch.observed)
    target = _log_target(model, draw.free, draw.nuisances, batch.observed)
    return draw.log_prob - share * target


def symmetric(model: TargetModel, flow: Flow, batch: Batch) -> Row:
    """Terms of J, in nats, from one solve for both directions."""
    forward, reverse = symmetric_parts(model, flow, batch)
    return 0.5 * (forward + reverse)


def symmetric_path(model: TargetModel, flow: Flow, batch: Batch) -> Row:
    """Terms of J, in nats, that have the path gradient if the flow can give it."""
    if not isinstance(flow, PathEnds):
        return symmetric(model, flow, batch)
    there = flow.ends(batch.free, batch.nuisances, batch.observed, batch.base)
    ends = (there.free, there.nuisances, there.base)
    with _fixed_weights(flow):
        free, nuisances, base = (end.detach().requires_grad_() for end in ends)
        back = flow.two_way(free, nuisances, batch.observed, base)
        reverse = back.log_prob - _log_target(model, free, nuisances, batch.observed)
        draw = back.draw
        target = _log_target(model, draw.free, draw.nuisances, batch.observed)
        terms = 0.5 * (target - draw.log_prob + reverse)
        slopes = torch.autograd.grad(
            terms.sum(), (free, nuisances, base), materialize_grads=True
        )
    path = sum(
        ((end * slope).sum(-1) for end, slope in zip(ends, slopes, strict=True)),
        terms.new_zeros(()),
    )
    return terms.detach() + path - path.detach()


def contrast(
    model: TargetModel,
    flow: Flow,
    batch: Batch,
    base: Float[Tensor, "draw batch state"],
) -> Row:
    """Terms of J, in nats, that have the gradient by contrasts.

    Args:
        model: the target.
        flow: one that can be drawn from quickly (`Drawn`).
        batch: joint draws.
        base: base points of at least two draws for each of them.
    """
    num, count = base.shape[:2]
    observed = batch.observed.repeat(num, 1)
    drawn = cast("Drawn", flow).drawn(base.flatten(0, 1), observed)
    with torch.no_grad():
        free, nuisances = (each.double() for each in drawn)
        found = _log_target(model, free, nuisances, observed.double())
    log_prob = flow.log_prob(
        torch.cat([batch.free, drawn[0]]),
        torch.cat([batch.nuisances, drawn[1]]),
        torch.cat([batch.observed, observed]),
    )
    log_prob = log_prob.view(num + 1, count)
    joint = torch.cat([batch.log_joint, found.to(batch.log_joint)])
    error = log_prob.detach().double() - joint.view(num + 1, count)
    error = error.nan_to_num(nan=_FAR, posinf=_FAR, neginf=-_FAR)
    weights = torch.softmax(-error, 0)
    centre = (weights * error).sum(0)
    held = (error - centre).clamp(-MOST_NATS, MOST_NATS)[1:]
    mean = held.mean(0)
    slopes = -weights
    slopes[1:] += 1.0 / (num + 1) + (held - mean) / (num - 1)
    path = 0.5 * (slopes.to(log_prob) * log_prob).sum(0)
    terms = 0.5 * (centre + mean - error[0])
    return terms.to(path) + path - path.detach()


def symmetric_parts(model: TargetModel, flow: Flow, batch: Batch) -> tuple[Row, Row]:
    """Terms of F and of R, in nats, from one solve."""
    both = _two_way(flow, batch)
    draw = both.draw
    target = _log_target(model, draw.free, draw.nuisances, batch.observed)
    return batch.log_joint - both.log_prob, draw.log_prob - target


def flow_matching(flow: Matched, batch: Batch, times: Row) -> Row:
    """Terms of the flow-matching loss, a warm start for the KL."""
    return flow.matching_terms(
        batch.free, batch.nuisances, batch.observed, batch.base, times
    )


def _two_way(flow: Flow, batch: Batch) -> TwoWay:
    """Both directions, in one go where the flow can."""
    if isinstance(flow, TwoDirections):
        return flow.two_way(batch.free, batch.nuisances, batch.observed, batch.base)
    return TwoWay(
        flow.log_prob(batch.free, batch.nuisances, batch.observed),
        flow.from_base(batch.base, batch.observed),
    )


def _log_target(
    model: TargetModel, free: Tensor, nuisances: Tensor, observed: Tensor
) -> Tensor:
    """Log joint density of latents, nuisances and observed values."""
    return model.log_joint_free(free, observed) + standard_normal_log_prob(nuisances)


@contextmanager
def _fixed_weights(flow: Flow) -> Iterator[None]:
    """Within it, weights of the flow carry no gradients."""
    learned = [p for p in flow.parameters() if p.requires_grad]
    for parameter in learned:
        parameter.requires_grad = False
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad = True
