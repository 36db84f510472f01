r"""This file forms log weights: the one place where a target meets a proposal.

For draws (z, y) with log_prob = log q(z, y | x) - log N(y; 0, I),

    log w = log p(z, x) - log_prob = log p(z, x) + log N(y; 0, I) - log q(z, y | x),

in nats and float64.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InferenceError
from .proposal import ProposalDraw, Target
from .weights import check_log_weights

__all__ = ["checked_log_weights", "log_weights"]


def log_weights(
    target: Target, draw: ProposalDraw, observed: Float[Tensor, "*row observed"]
) -> Float[Tensor, " particle"]:
    """Return log p(latents, observed) - log_prob of every draw, whatever it is.

    Moves of particles use it, which refuse what is nan.

    Args:
        target: The model.
        draw: Values with their density.
        observed: The observed values of all draws, or one row for each.

    Raises:
        InferenceError: If a density is not in float64, or not one number for each draw.
    """
    num = draw.latents.shape[0]
    log_joint = target.log_joint(draw.latents, observed.expand(num, -1))
    for name, density in (("proposal", draw.log_prob), ("target", log_joint)):
        if density.dtype != torch.float64 or density.shape != (num,):
            raise InferenceError.at(
                name,
                "the log density has the wrong type",
                f"float64 of shape [{num}]",
                f"{density.dtype} of shape {list(density.shape)}",
            )
    return log_joint - draw.log_prob


def checked_log_weights(
    target: Target,
    draw: ProposalDraw,
    observed: Float[Tensor, "*row observed"],
    *,
    where: str = "importance sampling",
) -> Float[Tensor, " particle"]:
    """Return the log weights of draws of a proposal; -inf outside the target's support.

    Args:
        target: The model.
        draw: Draws with their density.
        observed: The observed values of all draws, or one row for each.
        where: What they are for, the start of an error's sentence.

    Raises:
        InferenceError: If a density is not in float64, if a draw has density 0 under
            the proposal that drew it, or if a weight is nan or +inf.
    """
    num_impossible = int((draw.log_prob == -torch.inf).sum())
    if num_impossible:
        raise InferenceError.at(
            "proposal",
            "draws have density 0 under the proposal that drew them",
            "a positive density",
            f"density 0 for {num_impossible} of {draw.latents.shape[0]} draws",
        )
    found = log_weights(target, draw, observed)
    check_log_weights(found, where)
    return found
