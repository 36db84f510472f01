r"""This file is logarithms of quadratic forms of what networks read, for their units.

What tells the scale of noise or of effects is a sum of squares of some combinations of
the data, and the logarithm of it: a layer of units has neither. Of reads x, form k is

    f_k = log(1e-6 + sum_d w_dk^2 (a_d x)^2) / 2,        |a_d x| up to 1e15,

directions a and numbers w being weights of each network's own; a linear layer gives f
to the units of its first layer. `begin` starts them from joint draws at the principal
Hessian directions of latents (`directions.py`), where the directions of a scale are.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .directions import MOST_NUMBERS, Forms, principal_forms, usable, whitening

__all__ = ["QuadraticForms", "lengths_of_forms"]

_DIRECTIONS = 8
"""Times as many as forms, which share them."""
_MOST = 1e15
"""Of a combination, whose square is a number in single precision."""
_LEAST = 1e-6
"""Added to a form, whose mean over draws is 1 where it begins."""


class QuadraticForms(nn.Module):
    """Quadratic forms of a few networks.

    Args:
        reads: what each network reads, positions in a row of numbers.
        num: forms of a network.
        units: that they are given to.
        generator: source of the first weights.
    """

    reads: Tensor

    def __init__(
        self,
        reads: Sequence[Sequence[int]],
        num: int,
        units: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self._starts = [0, *accumulate(map(len, reads))]
        flat = torch.tensor([c for each in reads for c in each]).long()
        self.register_buffer("reads", flat, persistent=False)
        size = _DIRECTIONS * num
        pieces = [
            torch.randn(len(each), size, generator=generator) / len(each) ** 0.5
            for each in reads
        ]
        groups = torch.eye(num).repeat_interleave(_DIRECTIONS, 0) / _DIRECTIONS
        self.directions = nn.Parameter(torch.cat(pieces))
        self.weights = nn.Parameter(groups.sqrt().repeat(len(reads), 1, 1))
        last = torch.randn(len(reads), num, units, generator=generator)
        self.last = nn.Parameter(last / num**0.5)

    def forward(
        self, given: Float[Tensor, "batch number"]
    ) -> Float[Tensor, "network batch unit"]:
        """What the forms give to each unit.

        Args:
            given: rows of numbers; what no network reads is not looked at.
        """
        found = []
        for place, weights in enumerate(self.weights):
            own = self._own(place)
            seen = given.index_select(1, self.reads[own]) @ self.directions[own]
            forms = seen.clamp(-_MOST, _MOST).square() @ weights.square()
            found.append(0.5 * (_LEAST + forms).log() @ self.last[place])
        return torch.stack(found)

    @torch.no_grad()
    def begin(
        self,
        given: Float[Tensor, "draw number"],
        latents: Sequence[Float[Tensor, "draw latent"]],
        generator: torch.Generator,
    ) -> None:
        """Start where latents bend; before training, and once.

        Args:
            given: joint draws of the rows of numbers, scaled.
            latents: for each network, those that it is for, scaled.
            generator: of what is random.
        """
        for place, drawn in enumerate(latents):
            reads = self.reads[self._own(place)]
            rows = usable(torch.cat([given[:, reads], drawn], 1))
            data, drawn = rows[:, : len(reads)], rows[:, len(reads) :]
            if not 0 < len(reads) <= min(MOST_NUMBERS, len(data) - 1):
                continue
            covariance = torch.cov(data.T).reshape(len(reads), len(reads))
            turn = whitening(covariance, len(data))
            white = (data - data.mean(0)) @ turn
            _, size, num = self.weights.shape
            forms = principal_forms(white, drawn, size, num, generator)
            self._start(place, Forms(turn @ forms.directions, forms.weights))

    @property
    def numbers_of_row(self) -> int:
        """Numbers that one row needs."""
        networks, directions, forms = self.weights.shape
        return networks * (2 * directions + 2 * forms + self.last.shape[-1])

    def _start(self, place: int, forms: Forms) -> None:
        self.directions[self._own(place)] = forms.directions.to(self.directions)
        self.weights[place] = forms.weights.sqrt().to(self.weights)

    def _own(self, place: int) -> slice:
        """Of the directions."""
        return slice(self._starts[place], self._starts[place + 1])


def lengths_of_forms(
    name: str, reads: Sequence[Sequence[int]], num: int, units: int
) -> dict[str, int]:
    """Lengths of the weights by their names in a module.

    Args:
        name: of the forms there.
        reads: what each network reads.
        num: forms of a network.
        units: that they are given to.
    """
    size = _DIRECTIONS * num
    return {
        f"{name}.directions": size * sum(map(len, reads)),
        f"{name}.weights": len(reads) * size * num,
        f"{name}.last": len(reads) * num * units,
    }
