"""This file is a model with its nearly Gaussian latents integrated out, roughly.

Where the others are is found in it; what answers is weighed by the model itself.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from ..linear_gaussian.choice import many_latents, prior_part
from ..linear_gaussian.factors import conditionally_gaussian
from ..linear_gaussian.target import WithoutGaussians
from ..model.model import Model
from ..model.shapes import LatentRows, ObservedRow
from .part import LaplacePart, laplace_part

__all__ = ["LaplaceMarginal", "laplace_marginal"]

_LEAST = 8
"""Latents: fewer are no burden to what the others are answered by."""
_LEAST_SHARE = 0.5
"""Of the free coordinates."""
_MOST_NUMBERS = 2**11
"""Of all matrices, for one row: they are made often."""


@dataclass(frozen=True, eq=False)
class LaplaceMarginal(WithoutGaussians):
    """That of a model with nearly Gaussian latents, by Laplace's approximation.

    Attributes:
        whole: These latents, and the factors that have them.
    """

    whole: LaplacePart

    def has_meaning(
        self,
        latents: LatentRows,
        observed: ObservedRow,  # noqa: ARG002 - as an exact one
    ) -> Bool[Tensor, " row"]:
        """Return where latents are numbers.

        Other link functions may read latents that are integrated out: whether they have
        a meaning their likelihood tells, draw by draw.
        """
        return ~torch.isnan(latents).any(1)


def laplace_marginal(model: Model) -> LaplaceMarginal | None:
    """Return a model with latents integrated out by Laplace's approximation, or None.

    They are Gaussian but for what they say: counts with a log rate, answers with a
    logit, returns with a log scale, values beside outliers. None where that pays
    little, where no factor is so, or that of another latent is.

    Args:
        model: Any model.
    """
    names = many_latents(model, conditionally_gaussian, _LEAST, _LEAST_SHARE)
    if not names:
        return None
    whole = laplace_part(model.lowered, names)
    if whole is None or whole.num_entries > _MOST_NUMBERS:
        return None
    prior = prior_part(model, names)
    return None if prior is None else LaplaceMarginal(model, whole, prior)
