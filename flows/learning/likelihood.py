r"""This file evaluates the likelihood of parameters, row by row, on draws that stay.

With draws z_1 ... z_K of a proposal q for each row, made anywhere near θ,

    log p̂(x | θ) = log 1/K Σ_k w_k,      w_k = p(z_k, x | θ) / q(z_k),

whose slope is that of log p(z, x | θ) at weighted draws (Fisher's identity): as a
function of θ it is smooth and without noise, and its curvature is that of Louis. A row
whose latents are all summed out, or that has none, has one empty draw, and the
likelihood is exact.

References:
    Geyer and Thompson (1992), Constrained Monte Carlo maximum likelihood for dependent
    data, JRSS B 54(3).
    Louis (1982), Finding the observed information matrix when using the EM algorithm,
    JRSS B 44(2).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..flow.protocol import Flow
from ..model.standard_normal import standard_normal_log_prob
from .parted import PartedModel

__all__ = ["Drawing", "FlowDrawing", "Likelihood", "NoLatents", "RowDraws", "RowTerms"]

_MOST_NUMBERS = 2**22
"""Of draws by columns: so many are evaluated at once."""
_AT_ONCE = 2**18
"""The same where parameters are not repeated: what stays in the processor's cache."""

Values = Float[Tensor, " parameter"]
Rows = Float[Tensor, "row datum"]


@dataclass(frozen=True, slots=True, eq=False)
class RowDraws:
    """Draws of the latents of each row.

    Attributes:
        latents: Natural values, in the columns of what is not summed out.
        log_prob: Their density, relative to N(0, I) of nuisances, in nats.
    """

    latents: Float[Tensor, "draw row latent"]
    log_prob: Float[Tensor, "draw row"]

    @property
    def num(self) -> int:
        """How many there are of each row."""
        return len(self.latents)

    def rows(self, start: int, stop: int) -> "RowDraws":
        """Return the draws of some of the rows."""
        return RowDraws(self.latents[:, start:stop], self.log_prob[:, start:stop])

    def first(self, num: int) -> "RowDraws":
        """Return the first draws of each row."""
        return RowDraws(self.latents[:num], self.log_prob[:num])


class Drawing(Protocol):
    """What the latents of rows are drawn from."""

    @property
    def is_exact(self) -> bool:
        """Whether there is nothing to draw."""

    def draw(
        self, values: Values, data: Rows, num: int, *, generator: Generator
    ) -> RowDraws:
        """Return draws for each row, given parameters."""


@dataclass(frozen=True, slots=True, eq=False)
class NoLatents:
    """Rows without latents that are to be drawn."""

    @property
    def is_exact(self) -> bool:
        """True."""
        return True

    def draw(
        self,
        values: Values,  # noqa: ARG002
        data: Rows,
        num: int,  # noqa: ARG002
        *,
        generator: Generator,  # noqa: ARG002
    ) -> RowDraws:
        """Return one empty draw for each row."""
        return RowDraws(data.new_zeros(1, len(data), 0), data.new_zeros(1, len(data)))


@dataclass(frozen=True, slots=True, eq=False)
class FlowDrawing:
    """A flow for the rows' latents, amortised over parameters and data.

    Attributes:
        parted: The model.
        flow: In the columns of the rows' target, float64, solved for weights.
    """

    parted: PartedModel
    flow: Flow

    @property
    def is_exact(self) -> bool:
        """False: what is drawn is weighted."""
        return False

    @torch.no_grad()
    def draw(
        self, values: Values, data: Rows, num: int, *, generator: Generator
    ) -> RowDraws:
        """Return draws for each row, given parameters."""
        observed = self.parted.observed(values, data).repeat(num, 1)
        step = max(1, _MOST_NUMBERS // (16 * self.flow.structure.state_dim))
        parts = [self._drawn(part, generator) for part in torch.split(observed, step)]
        latents, log_prob = (torch.cat(each) for each in zip(*parts, strict=True))
        shape = (num, len(data))
        return RowDraws(latents.view(*shape, -1), log_prob.view(shape))

    def _drawn(
        self, observed: Float[Tensor, "row observed"], generator: Generator
    ) -> tuple[Tensor, Tensor]:
        drawn = self.flow.rsample_and_log_prob(observed, generator=generator)
        latents, log_det = self.parted.target.constrain(drawn.free)
        normal = standard_normal_log_prob(drawn.nuisances)
        return latents, drawn.log_prob - log_det - normal


@dataclass(frozen=True, slots=True, eq=False)
class RowTerms:
    """The likelihood of each row, and its slopes.

    Attributes:
        log_likelihood: log p̂(x | θ), in nats.
        scores: Its slopes by natural values of the parameters.
        ess: Effective number of draws.
    """

    log_likelihood: Float[Tensor, " row"]
    scores: Float[Tensor, "row parameter"]
    ess: Float[Tensor, " row"]


@dataclass(frozen=True, eq=False)
class Likelihood:
    """p(data | parameters), row by row.

    Attributes:
        parted: The model.
        data: Rows in the columns of the whole model.
    """

    parted: PartedModel
    data: Rows

    def log_weights(
        self,
        values: Float[Tensor, "*batch parameter"],
        data: Rows,
        draws: RowDraws,
    ) -> Float[Tensor, "*batch2 draw row"]:
        """Return log p(z, x | θ) - log q(z) of every draw; carries gradients.

        Args:
            values: Of the parameters, so many that they broadcast over draws and rows.
            data: Rows.
            draws: For each of these rows.
        """
        return self.parted.log_joint(values, draws.latents, data) - draws.log_prob

    def total(self, values: Values, draws: RowDraws) -> tuple[float, Values]:
        """Return the log likelihood of all rows and its slope: sums of `terms`.

        It takes a fraction of the time where parameters are many.
        """
        height, slope = 0.0, torch.zeros_like(values)
        for some, few in self._parts(draws, _AT_ONCE):
            leaf = values.detach().clone().requires_grad_()
            with torch.enable_grad():
                found = self.log_weights(leaf, few, some).logsumexp(0).sum()
                (part,) = torch.autograd.grad(found, leaf)
            height += float(found.detach()) - len(few) * math.log(some.num)
            slope += part
        if bool(slope.isfinite().all()):
            return height, slope
        # A draw of weight 0 may have no slope.
        terms = self.terms(values, draws)
        return float(terms.log_likelihood.sum()), terms.scores.sum(0)

    @torch.no_grad()
    def ess(self, values: Values, draws: RowDraws) -> Float[Tensor, " row"]:
        """Return the effective number of draws of each row."""
        parts = [
            self.log_weights(values, few, some).softmax(0).square().sum(0)
            for some, few in self._parts(draws, _AT_ONCE)
        ]
        return 1.0 / torch.cat(parts)

    def terms(self, values: Values, draws: RowDraws) -> RowTerms:
        """Return the likelihood of every row, and its slopes.

        Args:
            values: Natural values of the parameters.
            draws: For each row.
        """
        parts = []
        for found, weights, slopes in self._weighed(values, draws):
            ess = 1.0 / weights.square().sum(0)
            parts.append((found, slopes.sum(0), ess))
        return RowTerms(*(torch.cat(each) for each in zip(*parts, strict=True)))

    def noise(
        self, values: Values, draws: RowDraws
    ) -> Float[Tensor, "parameter parameter"]:
        """Return the covariance of the sum of all scores that comes of the draws."""
        total = values.new_zeros(len(values), len(values))
        for _, weights, slopes in self._weighed(values, draws):
            gaps = slopes - weights.unsqueeze(-1) * slopes.sum(0)
            total += torch.einsum("knp,knq->pq", gaps, gaps)
        return total

    def _weighed(
        self, values: Values, draws: RowDraws
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield log p̂ of some rows, weights of draws, and slopes times weights."""
        for some, few in self._parts(draws, _MOST_NUMBERS, len(values)):
            shape = (some.num, len(few), len(values))
            leaf = values.detach().expand(shape).clone().requires_grad_()
            with torch.enable_grad():
                log_weights = self.log_weights(leaf, few, some)
                found = log_weights.logsumexp(0) - math.log(some.num)
                (slopes,) = torch.autograd.grad(found.sum(), leaf)
            weights = log_weights.detach().softmax(0)
            # A draw of weight 0 may have no slope.
            yield (
                found.detach(),
                weights,
                torch.where(weights.unsqueeze(-1) > 0.0, slopes, 0.0),
            )

    def _parts(
        self, draws: RowDraws, most: int, repeated: int = 0
    ) -> Iterator[tuple[RowDraws, Rows]]:
        """Yield rows with their draws, so many that columns hold `most` numbers.

        Args:
            draws: For each row.
            most: Numbers at once.
            repeated: Columns of what is repeated for each draw.
        """
        width = self.data.shape[1] + draws.latents.shape[-1] + repeated
        step = max(1, most // (draws.num * width))
        for at in range(0, len(self.data), step):
            yield draws.rows(at, at + step), self.data[at : at + step]
