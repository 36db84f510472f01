r"""This file is a model with its discrete latents summed out.

    log p(c, x) = logsumexp over d of Σ_v T_v(d; c, x),       p(d | c, x) by its draws,

with c the continuous latents, and discrete ones that are sampled because they are too
wide to be summed out (`choice.py`). It has the same methods as `Model` over c alone, so
that flows, proposals and samplers use it as they use a model; `complete` adds exact
draws of the discrete latents to rows of c. Weights p(c, x) / q(c | x) are those of the
full model averaged over d: the discrete part adds no variance (Rao and Blackwell).

Free coordinates of c are those of `kept.py`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from ..errors import ModelError
from ..model.layout import Layout
from ..model.marginal import MarginalModel
from ..model.model import Model
from ..model.shapes import (
    LatentRows,
    Latents,
    LogDensity,
    Observed,
    ObservedRow,
)
from .kept import KeptLatents
from .parts import Part
from .plates import find_plates
from .supports import code_of
from .tables import DiscreteTables

__all__ = ["CollapsedModel"]


@dataclass(frozen=True, eq=False)
class CollapsedModel(MarginalModel):
    """The density p(continuous latents, observed) of a model with discrete latents.

    Attributes:
        model: The model whose discrete latents are summed out.
        tables: Its density as tables over them.
        sampled: Names of discrete latents that are not summed out.
        is_forgiving: Whether a row without meaning is impossible, no error.
    """

    model: Model
    tables: DiscreteTables
    sampled: tuple[str, ...] = ()
    is_forgiving: bool = False

    def forgiving(self) -> "CollapsedModel":
        """Return the model for which rows without meaning are impossible, no error.

        See `Model.forgiving`.
        """
        return replace(self, model=self.model.forgiving(), is_forgiving=True)

    def has_meaning(
        self, latents: LatentRows, observed: ObservedRow
    ) -> Bool[Tensor, " row"]:
        """Return where every link function that matters has a meaning.

        It matters at each possible value of the discrete latents.
        """
        entries = self._whole.entries(latents, observed, latents.shape[:1])
        _, matters = self._whole.log_sum(entries, len(latents))
        return ~(matters | torch.isnan(latents).any(-1))

    # -------------------------------------------------------------- what it is of

    @property
    def layout(self) -> Layout:
        """Columns of the latents that are not summed out, and of the observed nodes."""
        return self.coordinates.layout

    @cached_property
    def coordinates(self) -> KeptLatents:
        """Maps these latents to the real line and back."""
        return KeptLatents(self.model, self.tables.lowered, self.sampled)

    # -------------------------------------------------------------- densities

    @cached_property
    def _sources(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        dag = self.tables.dag
        latents, observed = (
            tuple(
                dag.variable((variable.name, position))
                for variable in variables
                for position in range(variable.size)
            )
            for variables in (self.layout.latents, self.layout.observed)
        )
        return latents, observed

    def part(self, chosen: Sequence[int] | None = None) -> Part:
        """Return some of the tables, by number; all of them if None."""
        return Part.of(self.tables, self._sources, chosen)

    @cached_property
    def _whole(self) -> Part:
        return self.part()

    @cached_property
    def _plated(self) -> Part:
        """All tables, plates summed by themselves."""
        plates = find_plates(self.tables)
        if not plates:
            return self._whole
        own = {number for plate in plates for number in plate.tables}
        rest = [
            number for number in range(len(self.tables.tables)) if number not in own
        ]
        return Part.of(self.tables, self._sources, rest, plates)

    @cached_property
    def _prior(self) -> Part:
        return self.part(self.prior_tables)

    @cached_property
    def prior_tables(self) -> tuple[int, ...]:
        """Numbers of the tables of latents, and of what these determine."""
        names = [node.name for node in self.graph.nodes]
        latents = set(self.graph.latents)
        own = [number for number, name in enumerate(names) if name in latents]
        return (*own, *range(len(names), len(self.tables.tables)))

    def log_joint(self, latents: Latents, observed: Observed) -> LogDensity:
        """Return log p(latents, observed) in nats, discrete latents summed out.

        Args:
            latents: Natural values of the continuous latents.
            observed: Observed values; one row may serve all latents.

        Raises:
            ModelError: If a distribution has a parameter without meaning at a
                configuration that is possible.
        """
        return self.log_sum(self._plated, latents, observed)

    def log_prior(
        self, latents: Latents, observed: Observed | None = None
    ) -> LogDensity:
        """Return log p(latents), discrete latents summed out.

        Args:
            latents: Natural values of the continuous latents.
            observed: Data, which matters only where latents read observed nodes.
        """
        if observed is None:
            observed = self.model.observation(like=latents)
        return self.log_sum(self._prior, latents, observed, without_meaning=0.0)

    def log_sum(
        self,
        part: Part,
        latents: Latents,
        observed: Observed,
        *,
        without_meaning: float = -math.inf,
    ) -> LogDensity:
        """Return the sum of tables; if forgiving a number for rows without meaning.

        Values of discrete latents without meaning alone weigh nothing; a row has no
        meaning where all of them have none.
        """
        batch = np.broadcast_shapes(latents.shape[:-1], observed.shape[:-1])
        if not math.prod(batch):
            return latents.sum(-1).expand(batch)
        summed = part.sum(latents, observed, batch, is_forgiving=self.is_forgiving)
        if summed is None:
            return self.log_sum(
                self._whole, latents, observed, without_meaning=without_meaning
            )
        found, matters = summed
        if self.is_forgiving:
            is_nan = torch.isnan(latents).any(-1).expand(batch).reshape(-1)
            is_none = matters & (found == -math.inf)
            return torch.where(is_none | is_nan, without_meaning, found).reshape(batch)
        if bool(matters.any()):
            row = int(torch.nonzero(matters)[0])
            raise ModelError.at(
                self.graph.source,
                f"a distribution has a parameter without meaning at row {row}, at "
                "values of the discrete latents that are possible",
            )
        is_unknown = torch.isnan(latents).any(-1) | torch.isnan(observed).any(-1)
        return torch.where(is_unknown, math.nan, found.reshape(batch))

    # -------------------------------------------------------------- discrete latents

    @torch.no_grad()
    def complete(
        self, latents: LatentRows, observed: ObservedRow, *, generator: Generator
    ) -> Float[Tensor, "row full"]:
        """Return rows of all latents: exact draws of the discrete ones added.

        Args:
            latents: Natural values of the continuous latents.
            observed: Observed values.
            generator: Source of the draws.
        """
        num = latents.shape[0]
        entries = self.entries(latents, observed)
        drawn = self.tables.elimination.sample(entries, num, generator=generator)
        names = self.tables.discrete
        full = self.coded(names, drawn[: len(names)]).to(latents)
        full[:, self.kept] = latents
        return full

    def coded(
        self, names: Sequence[str], places: Int[Tensor, "name row"]
    ) -> Float[Tensor, "row full"]:
        """Return rows of all latents with the values of some discrete ones.

        Args:
            names: Names of discrete latents.
            places: Which of `tables.values` each of them has.
        """
        full = torch.zeros(
            places.shape[1], self.model.layout.latent_dim, dtype=torch.float64
        )
        alike: dict[int, list[int]] = {}
        for position, name in enumerate(names):
            alike.setdefault(id(self._codes[name]), []).append(position)
        starts = [self.model.layout.variable(name).start for name in names]
        for positions in alike.values():
            codes = self._codes[names[positions[0]]]
            columns = [starts[position] for position in positions]
            full[:, columns] = codes[places[positions]].T
        return full

    def entries(self, latents: LatentRows, observed: ObservedRow) -> list[Tensor]:
        """Return the blocks of numbers of all tables; what has no value is -inf."""
        found = self._whole.entries(latents, observed, latents.shape[:1])
        return [torch.where(torch.isnan(part), -math.inf, part) for part in found]

    def left_out(
        self, latents: LatentRows, observed: ObservedRow
    ) -> Float[Tensor, " row"]:
        """Return the prior mass beyond the cuts, the largest over truncated latents."""
        entries = self.entries(latents, observed)
        worst = latents.new_zeros(len(latents))
        for name in self.tables.truncated:
            table = self.tables.tables[self._positions[name]]
            places = torch.from_numpy(
                table.entries.reshape(-1, table.entries.shape[-1])
            )
            kept = entries[table.block][places].logsumexp(1).exp()
            worst = torch.maximum(worst, (1.0 - kept).amax(0).clamp_min(0.0))
        return worst

    @cached_property
    def _positions(self) -> Mapping[str, int]:
        return {node.name: place for place, node in enumerate(self.graph.nodes)}

    @cached_property
    def _codes(self) -> Mapping[str, Tensor]:
        """How the columns of the full model write the values of a discrete latent.

        Latents with the same values have the same object.
        """
        made: dict[tuple[int, int], Tensor] = {}
        found = {}
        for name, values in self.tables.values.items():
            categories = self.model.categories(name)
            key = (id(values), id(categories) if categories else 0)
            if key not in made:
                codes = [code_of(value, categories) for value in values]
                made[key] = torch.tensor(codes, dtype=torch.float64)
            found[name] = made[key]
        return found
