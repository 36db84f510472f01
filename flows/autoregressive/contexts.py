"""This file is the networks that say in a few numbers, contexts, what long data say.

They are column networks whose first units are given quadratic forms of the data too. As
they have several times as many units as those of columns, their weights are trained by
a share of the rate: after some thousand whole steps one breaks all that was learnt.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..flow.column_networks import ColumnNetworks, NetworkShape, Part
from ..flow.quadratic_forms import QuadraticForms

__all__ = ["Contexts"]


class Contexts(ColumnNetworks):
    """A network for each set of data.

    Args:
        reads: observed columns of each set, the fewest first.
        shape: of the networks.
        size: numbers of a context.
        num_forms: quadratic forms of a network, 0 for none.
        generator: source of the first weights.

    Attributes:
        rate_share: of the learning rate that its weights are trained by in the end.
    """

    rate_share = 0.25

    def __init__(
        self,
        reads: Sequence[Sequence[int]],
        shape: NetworkShape,
        size: int,
        num_forms: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__(reads, shape, torch.zeros(size), generator)
        self.forms: QuadraticForms | None = None
        if num_forms:
            units = shape.hidden
            self.forms = QuadraticForms(reads, num_forms, units, generator)

    def beside(
        self, observed: Float[Tensor, "batch observed"]
    ) -> Float[Tensor, "batch data"]:
        """Scaled observed values, and beside them their contexts."""
        found = self.outputs(observed, self.whole)
        return torch.cat([observed, found.transpose(0, 1).flatten(1)], -1)

    def fit(
        self,
        observed: Float[Tensor, "draw observed"],
        latents: Sequence[Float[Tensor, "draw latent"]],
    ) -> None:
        """Fit first weights to joint draws; what is random there is always the same.

        Args:
            observed: scaled observed values.
            latents: for each set of data, the scaled columns that it has a context for.
        """
        self.whiten(observed)
        if self.forms is not None:
            self.forms.begin(observed, latents, torch.Generator().manual_seed(0))

    def numbers_of_row(self, copies: int) -> int:
        """See `ColumnNetworks`."""
        forms = 0 if self.forms is None else self.forms.numbers_of_row
        return super().numbers_of_row(copies) + forms

    def _entered(self, given: Tensor, part: Part) -> Tensor:
        state = super()._entered(given, part)
        return state if self.forms is None else state + self.forms(given)
