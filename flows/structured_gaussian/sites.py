r"""This file is the potentials of factors of one form, given the data.

With v the scaled latents, a predictor is u = a + A v, a and A bilinear in the data. An
exact potential is -1/2 |u|^2, of standardised residuals u. A learned one is quadratic
in predictors that are shifted and scaled by draws of the model (`quadratics.py`), its
numbers from `numbers.py`. They start as the regression, in draws of the model, of the
factor's value on its predictors, or of a latent's own columns on the other predictors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..flow.potentials import Potential
from ..flow.scaling import location_and_scale
from .cliques import Plan
from .elimination import square_of, times
from .numbers import Network, Table, network_widths
from .quadratics import LEAST_ROOT, Quadratic, num_numbers

__all__ = ["Rows", "Sites", "site_lengths"]

_MOST_UNIT = 20.0
"""Of data: columns with larger draws than so many scales have heavy tails."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What all potentials of a form add, entry by entry.

    Args:
        precision: added to entries of precisions; one row for all data, or one each.
        linear: added to linear terms.
        constant: added to the logarithm, in nats; of exact potentials.
    """

    precision: Float[Tensor, "rows entry"]
    linear: Float[Tensor, "batch column"]
    constant: Float[Tensor, " batch"]


class Sites(nn.Module):
    """Potentials that differ in columns and predictors alone.

    Args:
        potentials: of one form and shape.
        column: state column of each free column, among those of latents.
        plan: the order of elimination.
        offsets: of each batch's precisions and linear terms among all.
        hidden: units of a hidden layer of the network.
        layers: hidden layers.
        generator: source of the first weights.
    """

    entries: Tensor
    columns: Tensor
    latents: Tensor
    observed: Tensor
    predictors: Tensor
    predictor_shift: Tensor
    predictor_scale: Tensor
    data_shift: Tensor
    data_scale: Tensor
    data_bend: Tensor

    def __init__(
        self,
        potentials: Sequence[Potential],
        column: Sequence[int],
        plan: Plan,
        offsets: Sequence[tuple[int, int]],
        *,
        hidden: int,
        layers: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        first = potentials[0]
        self.own, self.is_exact = first.own, first.is_exact
        self.constant = math.fsum(each.constant for each in potentials)
        count, k = len(potentials), first.num_predictors
        shape = count, k, *first.shape
        matrix = torch.tensor([p.predictors for p in potentials], dtype=torch.float64)
        matrix = matrix.reshape(shape)
        self.has_products = bool(matrix[..., 1:, 1:].any())
        places = [tuple(column[c] for c in p.latents) for p in potentials]
        self.is_of_same = len({*places}) == 1
        entries: list[int] = []
        columns: list[int] = []
        for own in places[:1] if self.is_of_same else places:
            if not own:
                continue
            batch, position, clique = plan.clique(max(own))
            at = [clique.index(c) for c in own]
            width = plan.batches[batch].width
            entry, row = offsets[batch]
            starts = [position * width + i for i in at]
            columns.extend(row + start for start in starts)
            entries.extend(entry + start * width + j for start in starts for j in at)
        seen = [p.observed for p in potentials]
        for name, index in (
            ("entries", torch.tensor(entries).long()),
            ("columns", torch.tensor(columns).long()),
            ("latents", torch.tensor(places).long()),
            ("observed", torch.tensor(seen).long().reshape(count, -1)),
            ("predictors", matrix),
        ):
            self.register_buffer(name, index, persistent=False)
        if self.is_exact:
            return
        size = self.observed.shape[-1]
        for name, length in (("data", (size,)), ("predictor", (count, k))):
            self.register_buffer(f"{name}_shift", torch.zeros(length))
            self.register_buffer(f"{name}_scale", torch.ones(length))
        self.register_buffer("data_bend", torch.zeros(size))
        width = num_numbers(k)
        widths = network_widths(size, count, k, width, hidden, layers)
        self.numbers: Network | Table = (
            Network(size, widths, generator) if first.is_shared else Table(count, width)
        )
        diagonal = torch.full((k,), LEAST_ROOT)
        diagonal[k - first.own :] = 1.0
        plain = Quadratic(torch.diag(diagonal), torch.zeros(k), torch.zeros(k)).numbers
        with torch.no_grad():
            self.numbers.start(plain, torch.zeros_like(plain))

    def rows(
        self, observed: Float[Tensor, "batch observed"], shift: Tensor, scale: Tensor
    ) -> Rows:
        """What the potentials add to cliques.

        Args:
            observed: raw observed values, float64.
            shift: of the latents.
            scale: of the latents.
        """
        start, slopes = self._predictors(observed, shift, scale)
        if self.is_exact:
            rows, left = slopes, -start
            precision, linear = self._together(rows, left)
        else:
            start = (start - self.predictor_shift) / self.predictor_scale.double()
            slopes = slopes / self.predictor_scale.double().unsqueeze(-1)
            found = self._quadratic(observed)
            root = found.root
            rows = root * slopes if root.shape[-1] == 1 else root @ slopes
            precision, linear = self._together(rows, found.sharp - times(root, start))
            linear = linear + self._linear(slopes, found.flat)
        constant = self.constant - 0.5 * start.square().sum((-2, -1))
        return Rows(precision.flatten(1), linear.flatten(1), constant)

    @torch.no_grad()
    def fit(self, observed: Float[Tensor, "draw observed"], latents: Tensor) -> None:
        """Starts from draws: where predictors lie, and their regressions.

        Args:
            observed: raw observed values.
            latents: free coordinates in sampling order.
        """
        if self.is_exact:
            return
        zero, one = latents.new_zeros(()), latents.new_ones(())
        start, slopes = self._predictors(observed, zero, one)
        values = (slopes @ latents[:, self.latents].unsqueeze(-1))[..., 0] + start
        count, k = values.shape[1:]
        lie = location_and_scale(values.flatten(1))
        for name, each in zip(("shift", "scale"), lie, strict=True):
            getattr(self, f"predictor_{name}").copy_(each.reshape(count, k))
        data = observed[:, self.observed]
        centre, spread = location_and_scale(data.flatten(0, 1))
        self.data_shift.copy_(centre)
        self.data_scale.copy_(spread)
        largest = (data - centre).abs().flatten(0, 1).amax(0) / spread
        self.data_bend.copy_(largest > _MOST_UNIT)
        unit = (values - self.predictor_shift) / self.predictor_scale
        unit = unit.flatten(0, 1)
        if self.own:
            found = Quadratic.of_prior(unit, self.own)
            self.numbers.start(found.numbers, torch.zeros_like(found.numbers))
        elif data.shape[-1]:
            value = self._data(observed)[..., 0].flatten()
            found, growth = Quadratic.of_likelihood(unit, value)
            nothing = torch.zeros_like(found.numbers[: -len(growth)])
            self.numbers.start(found.numbers, torch.cat([nothing, growth]))

    def _together(self, rows: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        """R^T R and R^T l of each potential, or of all where latents are the same."""
        whole = rows.flatten(1, 2).unsqueeze(1) if self.is_of_same else rows
        return square_of(whole), self._linear(rows, left)

    def _linear(self, rows: Tensor, left: Tensor) -> Tensor:
        if not self.is_of_same:
            return times(rows.mT, left)
        rows, left = rows.flatten(1, 2), left.flatten(1, 2)
        return left.unsqueeze(1) @ rows

    def _predictors(
        self, observed: Tensor, shift: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A and A of all predictors in scaled latents."""
        seen = observed[:, self.observed]
        given = torch.cat(
            [torch.ones_like(observed[:, :1, None]).expand(-1, seen.shape[1], 1), seen],
            -1,
        )
        plain = self.predictors
        start = _bilinear(plain[..., 0, :], given)
        shift, scale = shift.double(), scale.double()
        if self.has_products:
            slopes = torch.einsum("nkrx,bnx->bnkr", plain[..., 1:, :], given)
        else:
            slopes = plain[None, ..., 1:, 0]
        if shift.ndim:
            moved = slopes * shift[self.latents].unsqueeze(-2)
            start = start + moved.sum(-1)
            slopes = slopes * scale[self.latents].unsqueeze(-2)
        return start, slopes

    def moments(
        self,
        observed: Float[Tensor, "batch observed"],
        scaling: tuple[Tensor, Tensor],
        cliques: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Means and covariances of the shifted and scaled predictors.

        Args:
            observed: raw observed values, float64.
            scaling: shift and scale of the latents.
            cliques: `Elimination.moments`.
        """
        start, slopes = self._predictors(observed, *scaling)
        size = self.latents.shape[1]
        count = 1 if self.is_of_same else len(self.latents)
        spread = cliques[0][:, self.entries].reshape(-1, count, size, size)
        centre = cliques[1][:, self.columns].reshape(-1, count, size)
        mean = start + times(slopes, centre)
        scale = self.predictor_scale.double()
        mean = (mean - self.predictor_shift) / scale
        slopes = slopes / scale.unsqueeze(-1)
        return mean, slopes @ spread @ slopes.mT

    def natural(
        self, observed: Float[Tensor, "batch observed"]
    ) -> tuple[Tensor, Tensor]:
        """Precision and linear term of each potential of a table."""
        precision, linear = self._quadratic(observed).natural
        return precision[0], linear[0]

    @torch.no_grad()
    def set_natural(
        self,
        precision: Float[Tensor, "potential predictor predictor"],
        linear: Float[Tensor, "potential predictor"],
    ) -> None:
        """Gives each potential of a table its precision and linear term."""
        table = self.numbers
        assert isinstance(table, Table)  # noqa: S101 (asked of one data set alone)
        table.values.copy_(Quadratic.from_natural(precision, linear).numbers)

    def _data(self, observed: Tensor) -> Tensor:
        """Data at unit scale; of columns with heavy tails by the logarithm."""
        unit = (observed[:, self.observed] - self.data_shift) / self.data_scale
        return torch.where(self.data_bend > 0, torch.asinh(unit), unit)

    def _quadratic(self, observed: Tensor) -> Quadratic:
        """All potentials in their predictors."""
        lies = torch.cat([self.predictor_shift, self.predictor_scale.log()], -1)
        numbers = self.numbers(self._data(observed), lies).double()
        return Quadratic.from_numbers(numbers, self.predictors.shape[1])


def site_lengths(
    potentials: Sequence[Potential], hidden: int, layers: int
) -> dict[str, int]:
    """Lengths of the tensors of `Sites` by name, without making them."""
    first, count = potentials[0], len(potentials)
    if first.is_exact:
        return {}
    size, k = len(first.observed), first.num_predictors
    width = num_numbers(k)
    if not first.is_shared:
        return {"numbers.values": count * width}
    widths = network_widths(size, count, k, width, hidden, layers)
    found = {"numbers.skip": 2 * size * widths[-1]}
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        found[f"numbers.weights.{number}"] = inputs * outputs
        found[f"numbers.biases.{number}"] = outputs
    return found


def _bilinear(matrix: Tensor, given: Tensor) -> Tensor:
    return torch.einsum("nkx,bnx->bnk", matrix, given)
