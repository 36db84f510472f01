"""This file evaluates the log densities of a graph, row by row, and explains nan.

A row's value does not depend on the other rows. Where a latent is impossible the
density is -inf, even where a link function has no meaning for it; where a parameter has
none in the support, that is an error, or -inf for a forgiving model; a row that holds
nan itself gives nan.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import ModelError
from .columns import as_columns, as_rows, common_rows
from .explanations import invalid_row
from .lowered import Lowered
from .lowered_graph import LoweredGraph
from .schedule import Schedule
from .shapes import LatentRows, Latents, Observed, ObservedRow

__all__ = ["Densities"]


@dataclass(frozen=True, eq=False)
class Densities:
    """The log densities of a graph, each a schedule that is made when first used.

    Attributes:
        lowered: The graph as slots.
    """

    lowered: LoweredGraph
    _of: dict[tuple[str, ...], Schedule] = field(default_factory=dict)

    @cached_property
    def joint(self) -> Schedule:
        """The sum over all nodes."""
        lowered = self.lowered
        return self._schedule([*lowered.latents, *lowered.observed], is_sum=True)

    @cached_property
    def prior(self) -> Schedule:
        """The sum over the latents."""
        return self._schedule(self.lowered.latents, is_sum=True)

    @cached_property
    def likelihood(self) -> Schedule:
        """The sum over the observed nodes."""
        return self._schedule(self.lowered.observed, is_sum=True)

    @cached_property
    def prior_terms(self) -> Schedule:
        """One number for each latent."""
        return self._schedule(self.lowered.latents)

    @cached_property
    def likelihood_terms(self) -> Schedule:
        """One number for each observed node."""
        return self._schedule(self.lowered.observed)

    def terms_of(self, names: Sequence[str]) -> Schedule:
        """One number for each of some nodes, in the order of their names."""
        key = tuple(names)
        if key not in self._of:
            self._of[key] = self._schedule(self.lowered.nodes[name] for name in names)
        return self._of[key]

    def _schedule(
        self, entries: Iterable[Lowered], *, is_sum: bool = False
    ) -> Schedule:
        terms = tuple(self.lowered.terms[entry.node.name] for entry in entries)
        sums = frozenset({0}) if is_sum else frozenset()
        return Schedule.of(self.lowered.dag, self.lowered.slots, [terms], sums=sums)

    def evaluate(
        self,
        schedule: Schedule,
        latents: Latents,
        observed: Observed,
        *,
        is_forgiving: bool = False,
    ) -> Tensor:
        """Return a schedule's output for every row, nan explained or raised.

        Args:
            schedule: One of this object's.
            latents: Natural values.
            observed: Observed values; one row may serve all latents.
            is_forgiving: Whether a row without meaning is impossible, not an error.

        Returns:
            One number per row for a sum, else one column per node.

        Raises:
            ModelError: If a distribution has a parameter without meaning.
        """
        layout = self.lowered.layout
        z, batch = as_columns(latents, layout.latent_dim, "latents")
        x, shape = as_columns(observed, layout.observed_dim, "observed")
        if latents.dtype != observed.dtype:
            raise ModelError.at(
                "observed",
                "the type differs from that of the latents",
                str(latents.dtype),
                str(observed.dtype),
            )
        z, x, batch = common_rows(z, batch, x, shape)
        count = math.prod(batch)
        is_sum = bool(schedule.sums)
        if not count:
            size = schedule.widths[0]
            return latents.new_zeros(batch if is_sum else (*batch, size))
        (result,) = schedule.run([z, x], num_rows=count, like=latents)
        wide = result if is_sum else result.expand(result.shape[0], count)
        # A sum is nan if one of its terms is: one number decides the usual case.
        if math.isnan(float(wide.detach().sum() + z.detach().sum())):
            wide = self._explained(wide, z, x, count, is_forgiving=is_forgiving)
        return wide.reshape(batch) if is_sum else as_rows(wide, batch)

    def _explained(
        self, result: Tensor, z: Tensor, x: Tensor, count: int, *, is_forgiving: bool
    ) -> Tensor:
        """Return the result with impossible rows at -inf; raise where nan remains."""
        is_nan = torch.isnan(result)
        if is_forgiving:
            return torch.where(is_nan, -math.inf, result)
        with torch.no_grad():
            is_impossible = self._is_impossible(z, x, count)
            is_unknown = torch.isnan(z).any(0) | torch.isnan(x).any(0)
            is_bad = is_nan & ~is_impossible & ~is_unknown
            if bool(is_bad.any()):
                rows = is_bad if is_bad.dim() == 1 else is_bad.any(0)
                raise invalid_row(self.lowered, z, x, int(torch.nonzero(rows)[0]))
        possible = torch.where(is_nan & is_impossible, -math.inf, result)
        return torch.where(is_unknown, math.nan, possible)

    def _is_impossible(self, z: Tensor, x: Tensor, count: int) -> Bool[Tensor, " row"]:
        (terms,) = self.prior_terms.run([z, x], num_rows=count, like=z)
        return (terms == -math.inf).any(0).expand(count)

    def has_meaning(
        self, latents: LatentRows, observed: ObservedRow
    ) -> Bool[Tensor, " row"]:
        """Return where every link function has a meaning, or the prior no mass."""
        layout, count = self.lowered.layout, len(latents)
        z, _ = as_columns(latents, layout.latent_dim, "latents")
        x, _ = as_columns(observed, layout.observed_dim, "observed")
        with torch.no_grad():
            (found,) = self.joint.run([z, x], num_rows=count, like=latents)
            is_bad = torch.isnan(found.expand(count))
            if not bool(is_bad.any()):
                return ~is_bad
            is_impossible = self._is_impossible(z, x, count)
        return ~is_bad | (is_impossible & ~torch.isnan(z).any(0))

    def likelihood_of(
        self, names: Sequence[str], latents: LatentRows, observed: ObservedRow
    ) -> Float[Tensor, "row node"]:
        """Return the log likelihood of some observed nodes; reads their parents alone.

        Raises:
            ModelError: If a distribution has a parameter without meaning.
        """
        layout, count = self.lowered.layout, len(latents)
        z, _ = as_columns(latents, layout.latent_dim, "latents")
        x, _ = as_columns(observed, layout.observed_dim, "observed")
        (found,) = self.terms_of(names).run([z, x], num_rows=count, like=latents)
        terms = found.expand(len(names), count)
        if bool(torch.isnan(terms).any()):
            row = int(torch.nonzero(torch.isnan(terms).any(0))[0])
            raise invalid_row(self.lowered, z, x, row, names)
        return terms.t()
